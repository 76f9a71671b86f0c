import {
  logVerbosity,
  Server,
  setLogVerbosity,
  type ServerCredentials,
  type ServerOptions,
} from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import {
  isLoopback,
  ListenError,
  parseAddress,
  showAddress,
  type Address,
} from "#core/address";
import { systemClock, type Clock } from "#core/clock";
import type { Config } from "#core/config";
import { ReidError } from "#core/errors";
import type { Log } from "#core/log";
import { startMetricsServer } from "#core/metrics-server";
import { Store, type StoreOptions } from "#core/store";
import { createTelemetry, type Telemetry } from "#core/telemetry";
import type { Galleries } from "#index/galleries";
import { Access } from "./auth.js";
import { Backups } from "./backups.js";
import { CropHashes } from "./crop-hashes.js";
import { CallCounter } from "./drain.js";
import { ShuttingDownError } from "./errors.js";
import { checkExposure } from "./exposure.js";
import { openGalleries } from "./gallery-engines.js";
import { EXTERNAL_MODEL } from "./gallery-requests.js";
import { InferencePool, planWorkers } from "./inference-pool.js";
import { Inference } from "./inference.js";
import { OnlineMode } from "./online.js";
import { makeMemoryTables } from "./online-store.js";
import { OperationLog } from "./operations.js";
import { packageVersion } from "./package-version.js";
import { Pages } from "./pages.js";
import { RecallMonitor } from "./recall-monitor.js";
import { Rebuilds } from "./rebuilds.js";
import { ModelRegistry, showModel } from "./registry.js";
import { Reranker } from "./reranker.js";
import { observeAges, observeStore } from "./store-metrics.js";
import { adminService } from "./services/admin.js";
import { authentication } from "./services/authentication.js";
import type { ServiceContext } from "./services/context.js";
import { packageDefinition, servedDefinition } from "./services/definitions.js";
import { embedService } from "./services/embed.js";
import { galleryService } from "./services/gallery.js";
import { Health, healthDefinition } from "./services/health.js";
import { memoryService } from "./services/memory.js";
import { modelService } from "./services/model.js";
import { operationService } from "./services/operation.js";
import { searchService } from "./services/search.js";
import { snapshotResumer } from "./services/snapshot-call.js";
import { openTransport } from "./services/transport.js";

/** How a server is started. */
export interface StartOptions {
  /** Sections `serve`, `grpc`, `limits`, `inference`, `memory` … count. */
  readonly config: Config;
  readonly log: Log;
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** How long NOT_SERVING is told before connections end. Default: 5 s, none where only this machine can reach it. */
  readonly announceMs?: number;
  /** Of the data folder's store; a double for tests. */
  readonly store?: StoreOptions;
}

/** A server that answers. */
export interface ReidServer {
  /** With the port that was really taken. */
  readonly address: Address;
  /** Undefined: no metrics are served. */
  readonly metricsAddress: Address | undefined;
  /** The active version of the default model; undefined: there is none. */
  readonly defaultModel: string | undefined;
  /** What online mode has learnt, settled: rows on disk, no clustering under way. */
  settleMemory(): Promise<void>;
  /** Answers what is under way for up to `serve.drain_ms`, then ends; idempotent. */
  close(): Promise<void>;
}

const DEFAULT_ANNOUNCE_MS = 5000;
/** What answers on their way out get before connections are cut. */
const FLUSH_MS = 250;

/**
 * Opens models, galleries and memory, and listens.
 *
 * @throws {InsecureListenError} an address that others can reach, without authentication and `serve.insecure`
 * @throws {ConfigError} principals or certificates that cannot be read or do not fit
 * @throws {ListenError} the port is taken
 * @throws {StoreLockedError} another process has the data folder
 */
export async function startServer(options: StartOptions): Promise<ReidServer> {
  const { config } = options;
  const address = parseAddress(config.serve.listen, "serve.listen");
  const closers: (() => Promise<void> | void)[] = [];
  const close = async () => {
    for (const one of closers.splice(0).reverse()) await one();
  };
  try {
    return await open(options, address, closers);
  } catch (error) {
    await close();
    throw error;
  }
}

async function open(
  options: StartOptions,
  wanted: Address,
  closers: (() => Promise<void> | void)[],
): Promise<ReidServer> {
  const { config, log, clock = systemClock } = options;
  const { auth, tls } = config;
  const transport = await openTransport(tls, log);
  closers.push(() => transport.close());
  const access = await Access.open({ auth, tls, clock, log });
  closers.push(() => access.close());
  const [metricsAddress] = metricsAddresses(config);
  checkExposure(
    {
      listen: wanted,
      metrics: metricsAddress,
      isAuthenticated: access.isOn,
    },
    config,
    log,
  );
  const telemetry = createTelemetry();
  closers.push(() => telemetry.close());
  const parts = await openParts(options, telemetry, closers);
  const draining = new AbortController();
  const shutdown = new AbortController();
  // Every call listens to both.
  setMaxListeners(0, draining.signal, shutdown.signal);
  const context: ServiceContext = {
    ...parts,
    config,
    access,
    pages: new Pages(clock),
    clock,
    log,
    telemetry,
    startedAtMs: clock.now(),
    devices: () => parts.pool.devices(),
    calls: new CallCounter(),
    draining: draining.signal,
    shutdown: shutdown.signal,
  };
  const server = new Server({
    ...serverOptions(config),
    interceptors: access.isOn ? [authentication(context)] : [],
  });
  addServices(server, context);
  const health = new Health(context, parts.pool, server);
  new ReflectionService({
    ...packageDefinition,
    ...healthDefinition,
  }).addToServer(server);
  closers.push(() => health.end());
  await health.check();
  const metrics =
    metricsAddress === undefined
      ? undefined
      : await startMetricsServer(metricsAddress, telemetry);
  if (metrics !== undefined) closers.push(() => metrics.close());
  const address = await listen(server, wanted, transport.credentials);
  closers.push(async () => {
    health.end();
    const announceMs = isLoopback(address.host) ? 0 : DEFAULT_ANNOUNCE_MS;
    await delay(options.announceMs ?? announceMs);
    draining.abort();
    await endCalls(server, context, shutdown);
  });
  let closed: Promise<void> | undefined;
  const active = parts.registry.activeVersion();
  return {
    address,
    metricsAddress: metrics?.address,
    defaultModel:
      active === undefined ? undefined : `${active.name}/${active.version}`,
    settleMemory: async () => {
      await Promise.all(
        (parts.online?.list() ?? []).map((memory) => memory.settle()),
      );
    },
    close: () =>
      (closed ??= (async () => {
        for (const one of closers.splice(0).reverse()) await one();
      })()),
  };
}

/** Everything that holds a resource, in the order of need. */
async function openParts(
  options: StartOptions,
  telemetry: Telemetry,
  closers: (() => Promise<void> | void)[],
) {
  const { config, log, clock = systemClock } = options;
  const store = await Store.open(config.serve.data, {
    minFreeBytes: config.store.minFreeBytes,
    onCommit: (durationMs) =>
      telemetry.record("reid.store.commit.duration", durationMs / 1000),
    onUpgraded: upgradeLog(log, clock),
    ...options.store,
  });
  closers.push(() => store.close());
  closers.push(observeStore(store, telemetry));
  makeMemoryTables(store);
  const { inference: settings } = config;
  const plan = planWorkers(settings.workers, settings.threadsPerWorker);
  const pool = new InferencePool({
    workers: plan.workers,
    threads: plan.threads,
    maxBatch: settings.maxBatch,
    device: config.device,
    log,
  });
  closers.push(() => pool.close());
  const registry = await ModelRegistry.open({
    folder: config.serve.models,
    pool,
    defaultModel: config.serve.defaultModel,
    clock,
    log,
  });
  closers.push(() => registry.close());
  if (registry.activeVersion() === undefined)
    log.warn("no model is active: crops are refused", {
      models: config.serve.models,
      default: registry.defaultModel,
    });
  const inference = new Inference({ registry, pool, config, telemetry, clock });
  closers.push(() => inference.close());
  const reranker = new Reranker();
  closers.push(() => reranker.close());
  const instanceId = randomUUID();
  const engines = await openGalleries({
    ...{ config, store, instanceId, clock, log, telemetry },
    // Nothing is written before there are rebuilds.
    onOutgrown: (name) => rebuilds.outgrown(name),
  });
  const { galleries, requests, decisions } = engines;
  closers.push(() => galleries.close());
  const recall =
    config.index.engine === "faiss"
      ? new RecallMonitor(galleries, telemetry, clock)
      : undefined;
  closers.push(() => recall?.close());
  const table = engines.operations;
  const operations = await OperationLog.open({ table, clock, log });
  const rebuilds = new Rebuilds(operations, log);
  await loadGalleryModels(galleries, registry, log);
  closers.push(() => operations.close());
  const online = config.serve.online
    ? await OnlineMode.open({
        registry,
        config: config.memory,
        store,
        operations,
        telemetry,
        clock,
        log,
      })
    : undefined;
  if (online !== undefined) closers.push(() => online.close());
  const version = await packageVersion();
  const backups = await Backups.open({
    ...{ config, store, galleries, registry, operations },
    ...{ clock, log, version },
  });
  closers.push(observeAges({ galleries, backups }, telemetry, clock));
  await operations.resume({
    rebuild: rebuilds.resumer(galleries),
    snapshot: snapshotResumer(galleries),
  });
  await rebuilds.startWanted();
  const unobserve = [
    telemetry.observe("reid.gallery.entries", () =>
      galleries.known().map((gallery) => ({
        value: gallery.describe().entryCount,
        attributes: { gallery: gallery.name },
      })),
    ),
    telemetry.observe("reid.gallery.index.lag", () =>
      galleries.known().map((gallery) => {
        const { sequence, indexedSequence } = gallery.describe();
        return {
          value: sequence - indexedSequence,
          attributes: { gallery: gallery.name },
        };
      }),
    ),
  ];
  closers.push(() => {
    for (const stop of unobserve) stop();
  });
  return {
    ...{ store, pool, registry, inference, reranker },
    cropHashes: new CropHashes(store),
    recall,
    ...{ galleries, requests, decisions, operations, rebuilds, backups },
    ...{ online, version, instanceId },
  };
}

/** Crops sent to a gallery are embedded with its version, whatever is active: that has to be loaded too. */
/** How often a start says how far a store is that is brought to the present format. */
const saidEveryMs = 5000;

/** Says so in the log, and when it is there. */
function upgradeLog(
  log: Log,
  clock: Clock,
): NonNullable<StoreOptions["onUpgraded"]> {
  let saidMs = clock.monotonic();
  return (done, of) => {
    if (done < of && clock.monotonic() - saidMs < saidEveryMs) return;
    saidMs = clock.monotonic();
    log.info("store is brought to the present format", { done, of });
  };
}

async function loadGalleryModels(
  galleries: Galleries,
  registry: ModelRegistry,
  log: Log,
): Promise<void> {
  for (const gallery of galleries.known()) {
    const { model } = gallery.describe();
    if (model.name === EXTERNAL_MODEL) continue;
    try {
      await registry.load(model);
    } catch (error) {
      if (!(error instanceof ReidError)) throw error;
      log.warn("a gallery's model could not be loaded: it takes no crops", {
        gallery: gallery.name,
        model: showModel(model),
        error,
      });
    }
  }
}

function addServices(server: Server, context: ServiceContext): void {
  const add = server.addService.bind(server);
  add(servedDefinition("EmbedService"), embedService(context));
  add(servedDefinition("SearchService"), searchService(context));
  add(servedDefinition("GalleryService"), galleryService(context));
  add(servedDefinition("ModelService"), modelService(context));
  add(servedDefinition("MemoryService"), memoryService(context));
  add(servedDefinition("OperationService"), operationService(context));
  add(servedDefinition("AdminService"), adminService(context));
}

/** Stops taking calls, answers those under way, and cuts what is left when the time is over. */
async function endCalls(
  server: Server,
  context: ServiceContext,
  shutdown: AbortController,
): Promise<void> {
  const { calls, config, log } = context;
  const drained = new Promise<void>((resolve) =>
    server.tryShutdown(() => resolve()),
  );
  // Health watchers hold their connections for good: once no call of ours is left, they need not be waited for.
  const idle = calls.idle().then(() => delay(FLUSH_MS));
  const timer = new AbortController();
  const late = delay(config.serve.drainMs, true, {
    signal: timer.signal,
  }).catch(() => false);
  const isLate = await Promise.race([
    drained.then(() => false),
    idle.then(() => false),
    late,
  ]);
  timer.abort();
  if (isLate) {
    log.warn("calls cut at shutdown", { calls: calls.count });
    shutdown.abort(new ShuttingDownError());
    await delay(FLUSH_MS);
  }
  server.forceShutdown();
}

/** Where metrics are to be served: nowhere or at one address. */
function metricsAddresses({ serve }: Config): readonly Address[] {
  return serve.metrics === ""
    ? []
    : [parseAddress(serve.metrics, "serve.metrics")];
}

function listen(
  server: Server,
  address: Address,
  credentials: ServerCredentials,
): Promise<Address> {
  const { host } = address;
  return new Promise((resolve, reject) => {
    // What it would write to stderr is in the error that it gives.
    setLogVerbosity(logVerbosity.NONE);
    server.bindAsync(showAddress(address), credentials, (error, port) => {
      if (error === null) resolve({ host, port });
      else reject(listenError(address, error));
    });
  });
}

/** What the system said, out of grpc-js's longer sentence. */
function listenError(address: Address, error: Error): ListenError {
  const said = /listen (E[A-Z]+)/.exec(error.message)?.[1] ?? error.message;
  return new ListenError(showAddress(address), said, { cause: error });
}

function serverOptions({ grpc, limits }: Config): ServerOptions {
  return {
    "grpc.max_receive_message_length": limits.requestBytes,
    "grpc.max_send_message_length": limits.responseBytes,
    "grpc.max_concurrent_streams": limits.streams,
    "grpc.keepalive_time_ms": grpc.keepaliveMs,
    "grpc.keepalive_timeout_ms": grpc.keepaliveTimeoutMs,
    "grpc.max_connection_age_ms": grpc.maxConnectionAgeMs,
    "grpc.max_connection_age_grace_ms": grpc.maxConnectionAgeGraceMs,
    // grpc-js numbers the algorithms: 0 identity, 2 gzip.
    "grpc.default_compression_algorithm": grpc.compress === "gzip" ? 2 : 0,
  };
}
