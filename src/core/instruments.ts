/**
 * How a measurement adds up: counters only rise, up-down counters rise and fall. Observed counters and gauges are
 * read when asked for.
 */
export type InstrumentKind =
  "counter" | "observed-counter" | "up-down" | "gauge" | "histogram";

/** One row of docs/metrics.md. */
export interface InstrumentSpec {
  readonly kind: InstrumentKind;
  /** UCUM: `s`, `By`, `1`, `{crop}` … */
  readonly unit: string;
  /** Names of the attributes a measurement may have. */
  readonly attributes: readonly string[];
  readonly description: string;
  /** Upper bounds of a histogram's buckets, rising, in the unit. */
  readonly buckets?: readonly number[];
}

const SECONDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
  10,
];
const LONG_SECONDS = [
  0.1, 0.215, 0.464, 1, 2.15, 4.64, 10, 21.5, 46.4, 100, 215, 464, 1000,
];
const SIZES = [1, 2, 4, 8, 16, 32, 64];

/** Names of all instruments. */
export type InstrumentName = keyof typeof table;

const table = {
  "rpc.server.call.duration": {
    kind: "histogram",
    unit: "s",
    attributes: [
      "rpc.system.name",
      "rpc.method",
      "rpc.response.status_code",
      "error.type",
    ],
    description: "duration of a call; error.type is the reason",
    buckets: SECONDS,
  },
  "reid.denied": {
    kind: "counter",
    unit: "{call}",
    attributes: ["reason"],
    description: "calls denied to their callers",
  },
  "reid.stream.active": {
    kind: "up-down",
    unit: "{stream}",
    attributes: ["rpc.method"],
    description: "streams open now",
  },
  "reid.crops": {
    kind: "counter",
    unit: "{crop}",
    attributes: ["origin", "outcome"],
    description: "crops taken in; outcome is ok or a reason",
  },
  "reid.crop.decode.duration": {
    kind: "histogram",
    unit: "s",
    attributes: ["format"],
    description: "decoding and resizing one crop, waiting included",
    buckets: SECONDS,
  },
  "reid.queue.depth": {
    kind: "gauge",
    unit: "{crop}",
    attributes: ["priority"],
    description: "crops accepted and not yet in the encoder",
  },
  "reid.queue.limit": {
    kind: "gauge",
    unit: "{crop}",
    attributes: ["priority"],
    description: "depth at which crops are refused",
  },
  "reid.queue.duration": {
    kind: "histogram",
    unit: "s",
    attributes: ["priority"],
    description: "wait of a decoded crop for the encoder",
    buckets: SECONDS,
  },
  "reid.batch.size": {
    kind: "histogram",
    unit: "{crop}",
    attributes: ["model"],
    description: "crops in one run of the encoder",
    buckets: SIZES,
  },
  "reid.encoder.duration": {
    kind: "histogram",
    unit: "s",
    attributes: ["model", "device"],
    description: "one run of the encoder",
    buckets: SECONDS,
  },
  "reid.embed.duration": {
    kind: "histogram",
    unit: "s",
    attributes: ["priority"],
    description: "crop in to feature out",
    buckets: SECONDS,
  },
  "reid.workers": {
    kind: "gauge",
    unit: "{worker}",
    attributes: ["state"],
    description: "encoder workers by state: idle, busy, dead",
  },
  "reid.search.duration": {
    kind: "histogram",
    unit: "s",
    attributes: ["gallery", "mode", "filtered"],
    description: "one search of a gallery; mode is index, exact or fallback",
    buckets: SECONDS,
  },
  "reid.identify.decisions": {
    kind: "counter",
    unit: "{decision}",
    attributes: ["gallery", "decision"],
    description: "answers of Identify; decision is known, ambiguous or new",
  },
  "reid.gallery.entries": {
    kind: "gauge",
    unit: "{entry}",
    attributes: ["gallery"],
    description: "entries in a gallery",
  },
  "reid.gallery.writes": {
    kind: "counter",
    unit: "{entry}",
    attributes: ["gallery", "write"],
    description:
      "entries written; write is enroll, update, delete, expire or forget",
  },
  "reid.gallery.index.lag": {
    kind: "gauge",
    unit: "{entry}",
    attributes: ["gallery"],
    description: "writes that are not in the index",
  },
  "reid.store.commit.duration": {
    kind: "histogram",
    unit: "s",
    attributes: [],
    description: "one transaction, until it is flushed to disk",
    buckets: SECONDS,
  },
  "reid.store.size": {
    kind: "gauge",
    unit: "By",
    attributes: [],
    description: "size of the store",
  },
  "reid.store.free": {
    kind: "gauge",
    unit: "By",
    attributes: [],
    description: "free on the store's disk",
  },
  "reid.store.capacity": {
    kind: "gauge",
    unit: "By",
    attributes: [],
    description: "capacity of the store's disk",
  },
  "reid.store.writable": {
    kind: "gauge",
    unit: "{store}",
    attributes: [],
    description: "1 where the store takes writes, else 0",
  },
  "reid.index.recall": {
    kind: "gauge",
    unit: "1",
    attributes: ["gallery"],
    description:
      "of the 10 nearest entries, the share that the index finds: mean of the last 100 samples",
  },
  "reid.snapshot.age": {
    kind: "gauge",
    unit: "s",
    attributes: ["gallery"],
    description: "since the index was last saved; a flat one is not",
  },
  "reid.backup.age": {
    kind: "gauge",
    unit: "s",
    attributes: [],
    description: "of the newest backup in `backup.dir`",
  },
  "reid.model.version": {
    kind: "gauge",
    unit: "{version}",
    attributes: ["model"],
    description: "the active version",
  },
  "reid.memory.rows": {
    kind: "gauge",
    unit: "{row}",
    attributes: ["model"],
    description: "rows of the online memory",
  },
  "reid.memory.clusters": {
    kind: "gauge",
    unit: "{cluster}",
    attributes: ["model"],
    description: "clusters of two rows or more in the last clustering",
  },
  "reid.memory.outliers": {
    kind: "gauge",
    unit: "{row}",
    attributes: ["model"],
    description: "rows in no cluster in the last clustering",
  },
  "reid.memory.drift": {
    kind: "gauge",
    unit: "1",
    attributes: ["model"],
    description:
      "Jensen-Shannon distance of similarities to the nearest prototype, before and after the last clustering",
  },
  "reid.memory.clustering.duration": {
    kind: "histogram",
    unit: "s",
    attributes: ["model", "outcome"],
    description: "one clustering of the online memory",
    buckets: LONG_SECONDS,
  },
  "reid.memory.clustering.age": {
    kind: "gauge",
    unit: "s",
    attributes: ["model"],
    description: "since the last clustering ended",
  },
  "nodejs.eventloop.delay.mean": {
    kind: "gauge",
    unit: "s",
    attributes: [],
    description: "mean delay of the event loop since the last reading",
  },
  "nodejs.eventloop.delay.p50": {
    kind: "gauge",
    unit: "s",
    attributes: [],
    description: "median delay of the event loop since the last reading",
  },
  "nodejs.eventloop.delay.p99": {
    kind: "gauge",
    unit: "s",
    attributes: [],
    description:
      "99th percentile of the event loop's delay since the last reading",
  },
  "nodejs.eventloop.delay.max": {
    kind: "gauge",
    unit: "s",
    attributes: [],
    description: "longest delay of the event loop since the last reading",
  },
  "nodejs.eventloop.utilization": {
    kind: "gauge",
    unit: "1",
    attributes: [],
    description:
      "share of the time that the event loop was busy since the last reading",
  },
  "v8js.memory.heap.used": {
    kind: "gauge",
    unit: "By",
    attributes: [],
    description: "JavaScript heap in use",
  },
  "process.memory.usage": {
    kind: "gauge",
    unit: "By",
    attributes: [],
    description: "resident memory of the process",
  },
  "process.cpu.time": {
    kind: "observed-counter",
    unit: "s",
    attributes: ["cpu.mode"],
    description: "processor time of the process, all threads",
  },
} as const satisfies Record<string, InstrumentSpec>;

/** Every instrument: what docs/metrics.md lists and what a scrape shows. */
export const instruments: Readonly<Record<InstrumentName, InstrumentSpec>> =
  table;
