import { authSection as auth } from "./config-auth.js";
import {
  facts,
  nested,
  number,
  openText,
  section,
  text,
  UNBOUNDED,
  whole,
  word,
  yesNo,
  type SectionOutput,
} from "./config-fields.js";
import { trainSection as train } from "./config-train.js";

const Mi = 1024 * 1024;

/** Section 12 of the API, by the names that `GetServerInfo` gives. */
const limits = nested({
  requestBytes: whole(
    16 * Mi,
    [64 * 1024, 1024 * Mi],
    facts("bytes", "one request message"),
  ),
  responseBytes: whole(
    4 * Mi,
    [64 * 1024, 1024 * Mi],
    facts("bytes", "one response message"),
  ),
  crops: whole(64, [1, 4096], facts("crops", "in one Embed")),
  enrollments: whole(256, [1, 65_536], facts("enrollments", "in one Enroll")),
  hits: whole(
    10_000,
    [1, 1_000_000],
    facts("hits", "k times hits per identity times queries of one Search"),
  ),
  pageSize: whole(1000, [1, 100_000], facts("items", "on one page of a list")),
  attributes: whole(16, [0, 1024], facts("attributes", "of one entry")),
  windowCrops: whole(
    256,
    [1, 65_536],
    facts("crops", "unanswered on one StreamEmbed"),
  ),
  queueInteractive: whole(
    512,
    [1, 1_000_000],
    facts("crops", "waiting for the encoder with priority INTERACTIVE"),
  ),
  streams: whole(100, [1, 100_000], facts("streams", "on one connection")),
  encodedCropBytes: whole(
    4 * Mi,
    [1, 1024 * Mi],
    facts("bytes", "of one encoded crop"),
  ),
  cropPixels: whole(
    4 * Mi,
    [64, 64 * Mi],
    facts("px", "width times height of one crop"),
  ),
  decodingPixels: whole(
    32 * Mi,
    [64, 1024 * Mi],
    facts("px", "being decoded at once, all calls together"),
  ),
  queries: whole(64, [1, 4096], facts("queries", "in one Search")),
  largeHits: whole(
    128,
    [1, 10_000],
    facts("hits", "where features or crops are returned; pages too"),
  ),
  filterValues: whole(
    1000,
    [1, 100_000],
    facts("values", "in all lists of one request's filters"),
  ),
  galleries: whole(256, [1, 65_536], facts("galleries", "on this server")),
  windowEnrollments: whole(
    4096,
    [1, 65_536],
    facts("enrollments", "unanswered on one StreamEnroll"),
  ),
  queueBulk: whole(
    4096,
    [1, 1_000_000],
    facts("crops", "waiting for the encoder with priority BULK"),
  ),
  dimension: whole(4096, [1, 65_536], facts("numbers", "in one feature")),
});

const serve = nested({
  models: text("models", "folder of model bundles, NAME/VERSION"),
  data: text("data", "folder of the durable state; one process at a time"),
  listen: text(
    "127.0.0.1:50051",
    "address of the gRPC server, HOST:PORT; port 0: any free one",
  ),
  metrics: text(
    "127.0.0.1:9464",
    "address of /metrics, HOST:PORT; empty: none",
  ),
  online: yesNo(false, "keep an online memory of the crops embedded"),
  insecure: yesNo(
    false,
    "listen on another address than loopback though callers are not authenticated",
  ),
  defaultModel: openText(
    "model of requests that name none; unset: the only one there is, else the first by name",
  ),
  drainMs: whole(
    30_000,
    [0, 600_000],
    facts("ms", "given to work in flight at shutdown"),
  ),
});

const tls = nested({
  certificate: openText(
    "PEM file with the server's certificate and those above it, read again when it changes; unset: no TLS",
  ),
  key: openText("PEM file with the certificate's key"),
  clientCa: openText(
    "PEM file with the authorities whose client certificates count; unset: none is asked for",
  ),
});

const grpc = nested({
  compress: word(["identity", "gzip"], "identity", "compression of answers"),
  keepaliveMs: whole(
    60_000,
    [1000, UNBOUNDED],
    facts("ms", "of silence before the server pings"),
  ),
  keepaliveTimeoutMs: whole(
    20_000,
    [100, UNBOUNDED],
    facts("ms", "waited for the answer to a ping"),
  ),
  maxConnectionAgeMs: whole(
    3_600_000,
    [1000, UNBOUNDED],
    facts(
      "ms",
      "after which a connection is closed, so that replicas share load again",
    ),
  ),
  maxConnectionAgeGraceMs: whole(
    30_000,
    [0, UNBOUNDED],
    facts("ms", "given to calls on a connection that is closed for its age"),
  ),
});

const inference = nested({
  workers: whole(
    0,
    [0, 256],
    facts("threads", "that run the encoder; 0: one for every four cores"),
  ),
  threadsPerWorker: whole(
    0,
    [0, 256],
    facts("threads", "of the engine in each worker; 0: all cores shared out"),
  ),
  maxBatch: whole(32, [1, 1024], facts("crops", "in one run of the encoder")),
  windowMs: number(
    2,
    [0, 1000],
    facts("ms", "that an idle worker waits for a batch to fill"),
  ),
});

const memory = nested({
  observe: yesNo(
    true,
    "learn from a writer's crops where the request does not say",
  ),
  maxRows: whole(
    20_000,
    [1, 1_000_000],
    facts("rows", "beyond which the oldest instance leaves"),
  ),
  reclusterRows: whole(
    512,
    [1, 1_000_000],
    facts("rows", "new or moved before the memory is clustered again"),
  ),
  reclusterMinMs: whole(
    10_000,
    [0, UNBOUNDED],
    facts("ms", "between the ends of two clusterings that new rows caused"),
  ),
  flushMs: whole(
    200,
    [1, 60_000],
    facts("ms", "that rows may wait before they are written to disk"),
  ),
  momentum: number(
    0.2,
    [0, 1],
    facts("", "share of the old row that stays when a track is seen again"),
  ),
  preset: word(
    ["auto", "paper"],
    "auto",
    "auto: camera centring and k1, eps by consensus; paper: as published",
  ),
  eps: number(
    0.6,
    [0.01, 1],
    facts("Jaccard distance", "DBSCAN's radius; preset auto chooses its own"),
  ),
  k1: whole(
    30,
    [2, 1000],
    facts("neighbours", "of the Jaccard distance; preset auto chooses its own"),
  ),
  k2: whole(
    6,
    [1, 1000],
    facts("neighbours", "averaged over; preset auto chooses its own"),
  ),
  minSamples: whole(
    4,
    [1, 1000],
    facts("rows", "within eps that make a core point, itself included"),
  ),
});

const search = nested({
  tail: whole(
    20_000,
    [0, 1_000_000],
    facts("entries", "not yet in the index that a search compares one by one"),
  ),
  exactBelow: whole(
    20_000,
    [0, 10_000_000],
    facts(
      "entries",
      "left by a filter under which the search is exact; with more, where that takes less than twice as long; 0: never",
    ),
  ),
});

const identify = nested({
  minSimilarity: number(
    0.6,
    [-1, 1],
    facts("similarity", "of a known identity, at least"),
  ),
});

const milvus = nested({
  address: text("127.0.0.1:19530", "address of Milvus, HOST:PORT"),
  tokenFile: openText(
    "file with the token, USER:PASSWORD or an API key; unset: none is asked for",
  ),
});

const postgres = nested({
  url: text(
    "postgres://reid@127.0.0.1:5432/reid",
    "where PostgreSQL is, postgres://USER@HOST:PORT/DATABASE",
  ),
  passwordFile: openText(
    "file with the password, read at the start; unset: none",
  ),
  connections: whole(
    16,
    [2, 1000],
    facts("connections", "at once; a search holds one while it runs"),
  ),
});

const index = nested({
  engine: word(
    ["faiss", "milvus"],
    "faiss",
    "what holds the features for searching; milvus goes with store.engine postgres",
  ),
  binding: word(
    ["auto", "addon", "faiss-node", "exact"],
    "auto",
    "what searches, with engine faiss; auto: the first of the others that this machine has",
  ),
  milvus: milvus,
  threads: whole(
    0,
    [0, 1024],
    facts(
      "threads",
      "that search; as many again build, behind all others; 0: one a processor",
    ),
  ),
  affinity: yesNo(false, "each of these threads stays on one processor"),
  maxEntries: whole(
    1_000_000,
    [1, 1_000_000_000],
    facts("entries", "of a gallery that does not say"),
  ),
  snapshotWrites: whole(
    50_000,
    [0, 1_000_000_000],
    facts(
      "writes",
      "to a gallery after which its index is saved in the background, where it is no flat one; 0: not for their number",
    ),
  ),
  snapshotAfterMs: whole(
    3_600_000,
    [0, UNBOUNDED],
    facts(
      "ms",
      "after its last snapshot that an index with new writes is saved; 0: not for its age",
    ),
  ),
  flatBelow: whole(
    20_000,
    [0, 1_000_000_000],
    facts(
      "entries",
      "under which a gallery that names no index has a flat one; from there on HNSW",
    ),
  ),
});

const gallery = nested({
  cropRetention: word(
    ["none", "keep"],
    "none",
    "whether galleries that do not say keep the crops they were given",
  ),
});

const store = nested({
  engine: word(
    ["lmdb", "postgres"],
    "lmdb",
    "what holds the durable state of the galleries; postgres goes with index.engine milvus",
  ),
  postgres: postgres,
  minFreeBytes: whole(
    1024 * Mi,
    [0, UNBOUNDED],
    facts("bytes", "free on the store's disk under which writes are refused"),
  ),
  compactAfterMs: whole(
    3_600_000,
    [0, 86_400_000],
    facts(
      "ms",
      "that the bytes of a forgotten identity may stay in free pages; then writes wait for one copy of the store",
    ),
  ),
});

const backup = nested({
  dir: openText(
    "folder of backups, best on another disk; unset: there are none, and the calls that make them are refused",
  ),
});

/**
 * Every setting there is, with default, range and unit.
 *
 * Keys are camelCase here and snake_case in files and in everything that is printed.
 */
export const configSchema = section({
  device: word(
    ["auto", "cpu", "cuda", "webgpu"],
    "auto",
    "where encoders run; a device asked for and not there is an error",
  ),
  logLevel: word(
    ["debug", "info", "warn", "error", "silent"],
    "info",
    "least severity that is logged",
  ),
  serve: serve,
  auth: auth,
  tls: tls,
  grpc: grpc,
  limits: limits,
  inference: inference,
  memory: memory,
  search: search,
  identify: identify,
  index: index,
  gallery: gallery,
  store: store,
  backup: backup,
  train: train,
});

/** The effective configuration: valid, complete but for the keys that decide themselves. */
export type Config = SectionOutput<typeof configSchema>;

/** Section `tls`. */
export type TlsSettings = Config["tls"];
