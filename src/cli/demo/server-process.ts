import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { ReidError } from "#core/errors";

/** The server ended before it was ready, or did not become ready. */
export class ServerStartError extends ReidError<{ output: string }> {
  readonly code = "SERVER_START";
  readonly kind = "unavailable";

  constructor(output: string) {
    super(
      `reid serve did not become ready: it said "${output}"; run it by hand to see more`,
      { output },
    );
  }
}

/** A `reid serve` process of our own. */
export interface ServerProcess {
  /** HOST:PORT. */
  readonly address: string;
  /** SIGTERM, and waits until it is gone. Idempotent. */
  stop(): Promise<void>;
}

const main = fileURLToPath(new URL("../main.js", import.meta.url));

/**
 * Starts `reid serve` with online memory on ports that the system chooses, and waits for its ready line.
 *
 * @throws {ServerStartError} it ended before
 */
export async function startServerProcess(options: {
  readonly models: string;
  readonly data: string;
  readonly signal: AbortSignal;
}): Promise<ServerProcess> {
  const child = spawn(
    process.execPath,
    [
      main,
      "serve",
      ...["--models", options.models, "--data", options.data],
      ...["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--online"],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  };
  options.signal.addEventListener("abort", () => void stop(), { once: true });
  try {
    return { address: await readyAddress(child), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function readyAddress(child: ChildProcess): Promise<string> {
  let said = "";
  child.stderr?.on("data", (bytes: Buffer) => {
    said = `${said}${bytes.toString()}`.slice(-400);
  });
  if (child.stdout !== null)
    for await (const line of createInterface({ input: child.stdout })) {
      const ready = /^ready: (\S+:\d+),/.exec(line);
      if (ready !== null) return ready[1];
    }
  throw new ServerStartError(said.trim());
}
