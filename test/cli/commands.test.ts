import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Command } from "#cli/command";
import { commands } from "#cli/commands";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

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

/** The failure that is the whole of stdout under `--json`. */
function failureIn(stdout: string): { code: string; message: string } {
  assert.match(stdout, /^[^\n]+\n$/);
  return (JSON.parse(stdout) as { error: { code: string; message: string } })
    .error;
}

/** Words that lead to each command, subcommands too. */
const paths = new Map<string, Command>();
for (const load of Object.values(commands)) {
  const { command }: { readonly command: Command } = await load();
  paths.set(command.name, command);
  for (const sub of Object.values(command.subcommands ?? {}))
    paths.set(`${command.name} ${sub.name}`, sub);
}

describe("reid", () => {
  for (const [path, command] of paths) {
    const words = path.split(" ");

    test(`${path} --help exits 0 and shows usage and every flag`, async () => {
      const { code, stdout } = await reid(...words, "--help");
      assert.equal(code, 0);
      assert.ok(stdout.includes(`usage: reid ${path} ${command.usage}`.trim()));
      for (const flag of [...Object.keys(command.options), "json", "quiet"])
        assert.match(stdout, new RegExp(`--${flag}\\b`));
    });

    test(`${path} exits 2 with one line on an unknown flag`, async () => {
      const { code, stdout, stderr } = await reid(...words, "--no-such-flag");
      assert.equal(code, 2);
      assert.equal(stdout, "");
      assert.match(stderr, /^reid: .*no-such-flag.*\n$/);
    });

    // A stray word is bad usage only where no paths are taken; elsewhere it is that nothing was given.
    const [bad, says] =
      command.takesPaths === true
        ? [["--json"], /missing|no crops|takes one/]
        : [["nonsense", "--json"], /nonsense|needs one of/];
    test(`${path} exits 2 and prints the failure as JSON when it is called wrongly under --json`, async () => {
      const { code, stdout, stderr } = await reid(...words, ...bad);
      assert.equal(code, 2);
      const failure = failureIn(stdout);
      assert.equal(failure.code, "USAGE");
      assert.match(failure.message, says);
      assert.equal(stderr, `reid: ${failure.message}\n`);
    });
  }

  test("lists every command under --help", async () => {
    const { code, stdout } = await reid("--help");
    assert.equal(code, 0);
    for (const command of Object.keys(commands))
      assert.match(stdout, new RegExp(`^  ${command} `, "m"));
  });

  test("exits 2 and names the commands there are when asked for another", async () => {
    for (const name of ["lookup", "toString"]) {
      const { code, stderr } = await reid(name);
      assert.equal(code, 2);
      assert.match(stderr, /"\w+".*demo, synth, train/);
    }
  });

  test("exits 2 and names the subcommands there are when asked for another", async () => {
    for (const name of ["remove", "toString"]) {
      const { code, stderr } = await reid("models", name);
      assert.equal(code, 2);
      assert.match(stderr, /needs one of import, list, show/);
    }
  });

  const outOfRange = [
    {
      args: ["demo", "--seed", "one"],
      says: /--seed is "one": expected a whole number from 0 upwards$/m,
    },
    {
      args: ["search", "--gallery", "door", "-k", "10001"],
      says: /--k is "10001": expected a whole number from 1 to 10000$/m,
    },
    {
      args: ["synth", "--domain", "moon"],
      says: /--domain is "moon": expected source, target$/m,
    },
    {
      args: ["train", "--out", "run", "--eps", "2"],
      says: /train\.eps is 2: expected number from 0 to 1$/m,
    },
    {
      args: ["train", "--out", "run", "--k1", "1"],
      says: /train\.k1 is 1: expected whole number from 2 to 1000$/m,
    },
    {
      args: ["serve", "--device", "abacus"],
      says: /device is "abacus": expected auto, cpu, cuda, webgpu$/m,
    },
  ];
  for (const { args, says } of outOfRange)
    test(`${args.join(" ")} exits 2 and says what is expected`, async () => {
      const { code, stderr } = await reid(...args);
      assert.equal(code, 2);
      assert.match(stderr, says);
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
    const failure = failureIn(stdout);
    assert.ok(failure.code.length > 0 && failure.message.length > 0);
  });

  test("prints a result as the one line on stdout under --json, words for people on stderr", async () => {
    const { code, stdout, stderr } = await reid("config", "--json");
    assert.equal(code, 0);
    assert.match(stdout, /^[^\n]+\n$/);
    const tree = JSON.parse(stdout) as { serve: { listen: string } };
    assert.equal(tree.serve.listen, "127.0.0.1:50051");
    assert.match(stderr, /^serve:$/m);
  });
});
