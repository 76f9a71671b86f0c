import assert from "node:assert/strict";
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

/** The command line's entry, as compiled. */
export const mainModule = fileURLToPath(
  new URL("../../src/cli/main.js", import.meta.url),
);

/** Resolves with a server's address when its process says that it is ready; rejects with all it said when it ends. */
export function readyAddress(
  running: ChildProcessByStdio<null, Readable, Readable>,
): Promise<string> {
  let said = "";
  return new Promise((resolve, reject) => {
    const listen = (chunk: Buffer): void => {
      said += chunk.toString();
      const found = /ready: (127\.0\.0\.1:\d+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    };
    running.stdout.on("data", listen);
    running.stderr.on("data", listen);
    running.on("close", () => {
      reject(new assert.AssertionError({ message: `server ended: ${said}` }));
    });
  });
}

/** A server of its own process. */
export interface OwnServer {
  readonly address: string;
  /** Ends it as a crash does. */
  kill(): Promise<void>;
  /** Ends it as an operator does. */
  end(): Promise<void>;
  /** How it ended; undefined: it runs. */
  readonly ended: () =>
    | {
        readonly exitCode: number | null;
        readonly signal: NodeJS.Signals | null;
        readonly said: string;
      }
    | undefined;
}

/**
 * Starts a server of its own process on a port that the system chooses.
 *
 * @param folder  holds models and configuration, which it is given
 * @param data    the data folder
 * @param config  the configuration's text
 */
export async function startOwnServer(
  folder: string,
  data: string,
  config: string,
): Promise<OwnServer> {
  await mkdir(join(folder, "models"), { recursive: true });
  const file = join(folder, "reid.yaml");
  await writeFile(file, config);
  const running = spawn(
    process.execPath,
    [
      ...[mainModule, "serve", "--models", join(folder, "models")],
      ...["--data", data, "--listen", "127.0.0.1:0", "--metrics", ""],
      ...["--device", "cpu", "--config", file],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let said = "";
  running.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  let ended: ReturnType<OwnServer["ended"]>;
  const closed = new Promise<void>((resolve) => {
    running.on("close", (exitCode, signal) => {
      ended = { exitCode, signal, said };
      resolve();
    });
  });
  const address = await readyAddress(running);
  const stop = (signal: "SIGKILL" | "SIGTERM") => async () => {
    running.kill(signal);
    await closed;
  };
  return {
    ...{ address, kill: stop("SIGKILL"), end: stop("SIGTERM") },
    ended: () => ended,
  };
}
