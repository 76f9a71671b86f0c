import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

const commands = [
  "demo",
  "synth",
  "train",
  "eval",
  "serve",
  "embed",
  "enroll",
  "search",
  "models",
  "memory",
  "index",
  "config",
] as const;

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function reid(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], (error, stdout, stderr) => {
      const code = error === null ? 0 : Number(error.code);
      resolve({ code, stdout, stderr });
    });
  });
}

describe("reid", () => {
  for (const command of commands) {
    test(`${command} --help exits 0 and shows usage and --json`, async () => {
      const { code, stdout } = await reid(command, "--help");
      assert.equal(code, 0);
      assert.match(stdout, new RegExp(`usage: reid ${command}`));
      assert.match(stdout, /--json/);
    });

    test(`${command} exits 2 with one line on an unknown flag`, async () => {
      const { code, stdout, stderr } = await reid(command, "--no-such-flag");
      assert.equal(code, 2);
      assert.equal(stdout, "");
      assert.match(stderr, /^reid: .*no-such-flag.*\n$/);
    });
  }

  test("lists every command under --help", async () => {
    const { code, stdout } = await reid("--help");
    assert.equal(code, 0);
    for (const command of commands)
      assert.match(stdout, new RegExp(`^  ${command} `, "m"));
  });

  test("exits 2 and names the commands there are when asked for another", async () => {
    const { code, stderr } = await reid("lookup");
    assert.equal(code, 2);
    assert.match(stderr, /"lookup".*demo, synth, train/);
  });

  test("prints a failure as one JSON object under --json", async () => {
    const { code, stdout } = await reid(
      "eval",
      "--json",
      "--model",
      "/nonexistent",
      "--data",
      "/nonexistent",
    );
    assert.equal(code, 1);
    const lines = stdout.trim().split("\n");
    assert.equal(lines.length, 1);
    const { error } = JSON.parse(lines[0]) as {
      error: { code: string; message: string };
    };
    assert.ok(error.code.length > 0 && error.message.length > 0);
  });
});
