import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type Client } from "#cli/client";
import { systemClock } from "#core/clock";

import { mainModule, readyAddress } from "../test/support/server-process.js";
import { writeTinyBundle } from "../test/support/tiny-bundle.js";

/** A server in a process of its own, as `reid serve` starts it. */
export interface BenchServer {
  readonly folder: string;
  readonly address: string;
  readonly client: Client;
  readonly process: ChildProcess;
  /** From the start of the process to its first answer, s. */
  readonly startS: number;
  /** Ends it and leaves its data. */
  stop(): Promise<void>;
  /** Ends it and removes its data. */
  remove(): Promise<void>;
}

/** Starts `reid serve` on a new data folder, or on one that an earlier server left. */
export async function startBenchServer(folder?: string): Promise<BenchServer> {
  const home = folder ?? (await mkdtemp(join(tmpdir(), "reid-bench-")));
  const models = join(home, "models");
  if (folder === undefined) await writeTinyBundle(models, "tiny");
  const started = systemClock.monotonic();
  const child = spawn(
    process.execPath,
    [
      mainModule,
      "serve",
      "--models",
      models,
      "--data",
      join(home, "data"),
      "--listen",
      "127.0.0.1:0",
      "--metrics",
      "",
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const address = await readyAddress(child);
  const client = connect(address);
  await client.GalleryService.ListGalleries({});
  const startS = (systemClock.monotonic() - started) / 1000;
  const stop = async (): Promise<void> => {
    client.close();
    if (child.exitCode !== null) return;
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGTERM");
    await ended;
  };
  return {
    folder: home,
    address,
    client,
    process: child,
    startS,
    stop,
    remove: async () => {
      await stop();
      await rm(home, { recursive: true, force: true });
    },
  };
}
