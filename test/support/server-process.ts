import assert from "node:assert/strict";
import type { ChildProcessByStdio } from "node:child_process";
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
