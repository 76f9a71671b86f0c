import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { goldenFolder } from "../support/golden.js";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const encoder = join(goldenFolder, "encoders/tiny_resnet.onnx");

function reid(
  ...args: readonly string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], (error, stdout, stderr) =>
      resolve({
        code: error === null ? 0 : Number(error.code),
        stdout,
        stderr,
      }),
    );
  });
}

describe("reid models", () => {
  let folder = "";
  before(async () => void (folder = await mkdtemp(join(tmpdir(), "models-"))));
  after(() => rm(folder, { recursive: true }));

  test("import makes a bundle that list and show know", async () => {
    const models = join(folder, "models");
    for (const version of [1, 2]) {
      const { code, stdout, stderr } = await reid(
        "models",
        "import",
        encoder,
        "--name",
        "tiny",
        "--out",
        models,
        "--json",
      );
      assert.equal(code, 0, stderr);
      const result = JSON.parse(stdout) as Record<string, unknown>;
      assert.equal(result["version"], version);
      assert.deepEqual(
        [result["heightPx"], result["widthPx"], result["dimension"]],
        [32, 16, 32],
      );
    }
    const list = JSON.parse(
      (await reid("models", "list", "--models", models, "--json")).stdout,
    ) as { models: unknown[] };
    assert.equal(list.models.length, 2);
    const show = JSON.parse(
      (await reid("models", "show", join(models, "tiny"), "--json")).stdout,
    ) as Record<string, unknown>;
    assert.equal(show["version"], 2);
  });

  test("import passes over a file that has a version's name, and list names it", async () => {
    const models = join(folder, "filed");
    await mkdir(join(models, "tiny"), { recursive: true });
    await writeFile(join(models, "tiny/1"), "no folder");
    const imported = await reid(
      ...["models", "import", encoder, "--name", "tiny"],
      ...["--out", models, "--json"],
    );
    assert.equal(imported.code, 0, imported.stderr);
    const { version } = JSON.parse(imported.stdout) as { version: number };
    assert.equal(version, 2);
    const list = await reid("models", "list", "--models", models);
    assert.equal(list.code, 0);
    assert.match(list.stderr, /no model bundle at \S+tiny\/1: give/);
  });

  const bad: readonly {
    readonly what: string;
    readonly args: readonly string[];
    readonly code: number;
    readonly says: RegExp;
  }[] = [
    { what: "no file", args: ["--name", "x"], code: 2, says: /takes one file/ },
    { what: "no name", args: [encoder], code: 2, says: /--name is missing/ },
    {
      what: "a name that is none",
      args: [encoder, "--name", "A B"],
      code: 1,
      says: /"A B" is no model name/,
    },
    {
      what: "a missing file",
      args: ["nowhere.onnx", "--name", "x"],
      code: 1,
      says: /no encoder "nowhere\.onnx": give an \.onnx file$/m,
    },
    {
      what: "a height of 0",
      args: [encoder, "--name", "x", "--height", "0"],
      code: 2,
      says: /--height is "0"/,
    },
    {
      what: "two means",
      args: [encoder, "--name", "x", "--mean", "1,2"],
      code: 2,
      says: /--mean is "1,2"/,
    },
    {
      what: "a deviation of 0",
      args: [encoder, "--name", "x", "--std", "0"],
      code: 2,
      says: /expected numbers other than 0/,
    },
    {
      what: "a feature node that does not exist",
      args: [encoder, "--name", "x", "--feature-node", "no"],
      code: 1,
      says: /no node or value "no"/,
    },
  ];
  for (const { what, args, code, says } of bad)
    test(`import refuses ${what} in one line`, async () => {
      const result = await reid(
        "models",
        "import",
        ...args,
        "--out",
        join(folder, "bad"),
      );
      assert.equal(result.code, code, result.stderr);
      assert.match(result.stderr, says);
      assert.equal(result.stderr.trim().split("\n").length, 1);
    });

  test("import refuses a file that is no ONNX", async () => {
    const path = join(folder, "text.onnx");
    await writeFile(path, "no encoder");
    const { code, stderr } = await reid(
      "models",
      "import",
      path,
      "--name",
      "x",
      "--out",
      join(folder, "bad"),
    );
    assert.equal(code, 1);
    assert.match(stderr, /not a valid ONNX model/);
  });

  test("show refuses a folder without a bundle", async () => {
    const { code, stderr } = await reid("models", "show", folder);
    assert.equal(code, 1);
    assert.match(stderr, /no model bundle at/);
  });
});
