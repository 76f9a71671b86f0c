import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

/** Starts `reid serve`, ends it once it is ready, and tells its last line on stdout, its log and its exit code. */
async function servedOnce(
  folder: string,
  logLevel: string,
  models = join(folder, "models"),
): Promise<{
  readonly code: unknown;
  readonly ready: string;
  readonly log: string;
}> {
  const file = join(folder, "reid.yaml");
  await writeFile(
    file,
    `log_level: ${logLevel}\nserve:\n  models: ${models}\n  data: ${join(folder, "data")}\n` +
      `  listen: 127.0.0.1:0\n  metrics: ""\n`,
  );
  const server = spawn(process.execPath, [main, "serve", "--config", file]);
  const ended = once(server, "exit");
  const log = text(server.stderr);
  let ready = "";
  for await (const line of createInterface({ input: server.stdout })) {
    if (line.startsWith("ready: ")) {
      ready = line;
      server.kill("SIGTERM");
    }
  }
  const [code] = (await ended) as [unknown];
  return { code, ready, log: await log };
}

describe("reid serve", () => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "serve-"));
    // A bundle that cannot be read is a line in the log.
    const broken = join(folder, "models/broken/1");
    await mkdir(broken, { recursive: true });
    await writeFile(join(broken, "manifest.json"), "{}");
  });
  after(() => rm(folder, { recursive: true }));

  test("says when it is ready, logs on stderr, and exits 0 on SIGTERM", async () => {
    const { code, ready, log } = await servedOnce(folder, "info");
    assert.equal(code, 0);
    assert.match(ready, /^ready: 127\.0\.0\.1:\d+, model none, metrics none/);
    assert.match(log, /MANIFEST_INVALID|broken/);
    for (const line of log.trim().split("\n"))
      assert.equal(typeof (JSON.parse(line) as { msg: unknown }).msg, "string");
  });

  test("logs nothing below the level that the configuration names", async () => {
    const { code, log } = await servedOnce(folder, "error");
    assert.equal(code, 0);
    assert.equal(log, "");
  });

  test("starts without a models folder, and says that it is not there", async () => {
    const models = join(folder, "later");
    const { code, ready, log } = await servedOnce(folder, "warn", models);
    assert.equal(code, 0);
    assert.match(ready, /model none/);
    assert.match(log, /models folder is not there: there are no models yet/);
    assert.ok(log.includes(models));
  });
});
