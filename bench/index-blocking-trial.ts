// A server in this process, its synchronous calls into the addon, into LMDB and to its threads traced, under mixed traffic.
import { openSync, readSync, stat } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { showAddress } from "#core/address";
import { systemClock } from "#core/clock";
import { parseConfig } from "#core/config";
import { silentLog } from "#core/log";
import { loadAddon } from "#core/native-addon";
import { StoreEnvironment } from "#core/store-environment";
import { startServer } from "#serve/server";

import { writeTinyBundle } from "../test/support/tiny-bundle.js";
import type { ClientInput, ClientTrial } from "./index-client-trial.js";
import { runTrial, trialInput, trialResult } from "./trial.js";

/** What the traffic is made of. */
export interface BlockingInput {
  /** float32 files; nothing is served where they are missing: an empty process, to compare with. */
  readonly rows?: string;
  readonly queries?: string;
  readonly dimension: number;
  readonly seconds: number;
}

/** Times in ms. */
export interface BlockingTrial {
  readonly calls: number;
  /** Of the calls' own time: what ran, and what waited for anything but a processor. */
  readonly p999: number;
  readonly worst: number;
  /** By the clock: with the time in which the system had given the processor to another thread. */
  readonly clockP999: number;
  readonly clockWorst: number;
  /** The call that took longest. */
  readonly worstCall: string;
  readonly loopDelayP99: number;
}

interface Traced {
  readonly name: string;
  readonly ms: number;
  readonly clockMs: number;
}

// proc(5): nanoseconds on a processor, nanoseconds ready to run but without one, turns; of the main thread.
const schedule = openSync(`/proc/self/task/${process.pid}/schedstat`, "r");
const line = Buffer.alloc(128);

/** How long the main thread has been ready to run without a processor, ms, since it began. */
function withoutProcessorMs(): number {
  const length = readSync(schedule, line, 0, line.length, 0);
  return Number(line.toString("latin1", 0, length).split(" ")[1]) / 1e6;
}

const { monotonic } = systemClock;
const input = trialInput<BlockingInput>();
const traced: Traced[] = [];

type Method = (...args: unknown[]) => unknown;

/** Times a method as the main thread waits for it. */
function timed(name: string, method: Method): Method {
  return function (this: unknown, ...args: unknown[]): unknown {
    const without = withoutProcessorMs();
    const began = monotonic();
    try {
      return method.apply(this, args);
    } finally {
      const clockMs = monotonic() - began;
      const lost = withoutProcessorMs() - without;
      traced.push({ name, ms: Math.max(clockMs - lost, 0), clockMs });
    }
  };
}

/** Every index made from here on is traced; the addon's own methods cannot be replaced. */
function traceAddon(): void {
  const addon = loadAddon("faiss") as {
    Index: new (...args: unknown[]) => object;
  };
  const { Index } = addon;
  addon.Index = new Proxy(Index, {
    construct: (_, args: unknown[]) => {
      const native = new Index(...args);
      return new Proxy(native, {
        get: (target, name) => {
          const method: unknown = Reflect.get(target, name);
          return typeof method === "function"
            ? timed(`addon.${String(name)}`, method.bind(target) as Method)
            : method;
        },
      });
    },
  });
}

/** lmdb makes a class for each environment: its methods are found at the first table that the store opens. */
function traceStore(): void {
  const seen = new Set<object>();
  const prototype = StoreEnvironment.prototype as unknown as {
    database: Method;
  };
  const { database } = prototype;
  prototype.database = function (this: unknown, ...args: unknown[]): unknown {
    const opened = database.apply(this, args) as object;
    const methods = Object.getPrototypeOf(opened) as Record<string, unknown>;
    if (seen.has(methods)) return opened;
    seen.add(methods);
    for (const [name, { value }] of Object.entries(
      Object.getOwnPropertyDescriptors(methods),
    ))
      if (typeof value === "function" && name !== "constructor")
        methods[name] = timed(`lmdb.${name}`, value as Method);
    return opened;
  };
}

/** What the store writes is handed to its thread, as crops are to those that infer. */
function traceWorkers(): void {
  const prototype = Worker.prototype as unknown as { postMessage: Method };
  prototype.postMessage = timed("worker.postMessage", prototype.postMessage);
}

const folder = await mkdtemp(join(tmpdir(), "reid-bench-"));
const loop = monitorEventLoopDelay({ resolution: 10 });

async function serve(rows: string, queries: string): Promise<void> {
  traceAddon();
  traceStore();
  traceWorkers();
  const models = join(folder, "models");
  await writeTinyBundle(models, "tiny");
  const server = await startServer({
    log: silentLog,
    config: parseConfig({
      serve: {
        models,
        data: join(folder, "data"),
        listen: "127.0.0.1:0",
        metrics: "",
      },
    }),
  });
  const address = showAddress(server.address);
  const client = (
    does: ClientInput["does"],
    features: string,
    more: Partial<ClientInput> = {},
  ): Promise<ClientTrial> =>
    runTrial<ClientTrial>("index-client-trial.js", {
      address,
      gallery: "door",
      does,
      features,
      dimension: input.dimension,
      first: 0,
      count: 1e9,
      callers: 2,
      seconds: input.seconds,
      ...more,
    });
  await client("bulk", rows, { create: "hnsw", count: 20_000 });
  traced.length = 0;
  loop.enable();
  await Promise.all([
    client("bulk", rows, { first: 20_000 }),
    client("search", queries),
    client("single", rows, { first: 10_000_000 }),
  ]);
  loop.disable();
  await server.close();
}

if (input.rows !== undefined && input.queries !== undefined)
  await serve(input.rows, input.queries);
else {
  loop.enable();
  const end = monotonic() + input.seconds * 1000;
  // Node's own way to a thread: what it takes here, the machine takes.
  const ask = timed("fs.stat", (done) => stat(".", done as () => void));
  while (monotonic() < end)
    await Promise.all([new Promise<void>(ask), delay(1)]);
  loop.disable();
}
const rising = traced.toSorted((a, b) => a.ms - b.ms);
const byClock = traced.map(({ clockMs }) => clockMs).sort((a, b) => a - b);
const result: BlockingTrial = {
  clockP999: byClock[Math.floor(byClock.length * 0.999)] ?? 0,
  clockWorst: byClock.at(-1) ?? 0,
  calls: rising.length,
  p999: rising[Math.floor(rising.length * 0.999)]?.ms ?? 0,
  worst: rising.at(-1)?.ms ?? 0,
  worstCall: rising.at(-1)?.name ?? "",
  loopDelayP99: loop.percentile(99) / 1e6,
};
await rm(folder, { recursive: true, force: true });
trialResult(result);
