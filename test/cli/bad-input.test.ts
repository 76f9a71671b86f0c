import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Store } from "#core/store";
import { GraphBuilder, int } from "#onnx/builder";
import { writeModel } from "#onnx/model";

const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

let root = "";
const at = (name: string) => join(root, name);

/** What a command line is refused with. */
interface Refusal {
  readonly what: string;
  readonly args: () => readonly string[];
  readonly code: string;
  readonly exit: 1 | 2;
  /** The whole line on stderr, less `reid: `. */
  readonly says: () => string;
}

const usl = (name: string) =>
  ["train", "--mode", "usl", "--target", at(name), "--out", at("run")] as const;
const imported = (name: string) =>
  ["models", "import", at(name), "--name", "x", "--out", at("m")] as const;
const noModels = (path: string, what: string) =>
  `models folder is ${path}, which is ${what}: expected a folder of bundles, NAME/VERSION, as reid models import makes one`;
const serve = (...flags: readonly string[]) => [
  "serve",
  ...["--models", at("models"), "--metrics", "", "--listen", "127.0.0.1:0"],
  ...flags,
];

const refusals: readonly Refusal[] = [
  {
    what: "a data set folder that is missing",
    args: () => usl("nowhere"),
    code: "DATASET_LAYOUT",
    exit: 1,
    says: () =>
      `${at("nowhere/bounding_box_train")} is missing, expected a folder of crops: ` +
      "give the folder that holds bounding_box_train, query and bounding_box_test",
  },
  {
    what: "a data set folder that is empty",
    args: () => usl("bare"),
    code: "DATASET_LAYOUT",
    exit: 1,
    says: () =>
      `${at("bare/bounding_box_train")} is empty, expected a folder with crops named like ` +
      "0002_c1s1_000451_03.jpg: check the path and the layout",
  },
  {
    what: "a file name that does not parse",
    args: () => usl("unnamed"),
    code: "DATASET_LAYOUT",
    exit: 1,
    says: () =>
      `${at("unnamed/bounding_box_train/person.jpg")} is named otherwise, expected named ` +
      "<identity>_c<camera>…, such as 0002_c1s1_000451_03.jpg: rename it, or leave such files out with --skip-bad",
  },
  {
    what: "a DukeMTMC-reID folder",
    args: () => usl("DukeMTMC-reID"),
    code: "DATASET_LAYOUT",
    exit: 1,
    says: () =>
      `${at("DukeMTMC-reID")} is DukeMTMC-reID or derived from it, expected a data set that is ` +
      "still published: its authors retracted it; use another data set",
  },
  {
    what: "a crop that is no image",
    args: () => [...usl("text"), "--encoder", "resnet_tiny"],
    code: "DATASET_LAYOUT",
    exit: 1,
    says: () =>
      `${at("text/bounding_box_train/0001_c1s1_000001_00.jpg")} is unreadable (crop of 8 bytes (unknown) cannot be ` +
      "decoded, its first bytes are of no format that is read here: send a whole JPEG, PNG or WebP file), expected " +
      "a crop that can be decoded: replace or remove it, or leave such files out with --skip-bad",
  },
  {
    what: "a crop folder that is missing",
    args: () => ["embed", at("nowhere")],
    code: "CROP_FILE_NOT_FOUND",
    exit: 1,
    says: () =>
      `there is no file or folder ${at("nowhere")}: give image files or a folder of them`,
  },
  {
    what: "a crop folder without an image",
    args: () => ["enroll", "--gallery", "g", at("unnamed")],
    code: "CROP_FOLDER_EMPTY",
    exit: 1,
    says: () =>
      `folder ${at("unnamed")} holds 1 files and no .jpg, .jpeg, .png or .webp: give a folder that has crops in it`,
  },
  {
    what: "k = 0",
    args: () => ["search", "--gallery", "g", "--k", "0", at("text.onnx")],
    code: "USAGE",
    exit: 2,
    says: () => '--k is "0": expected a whole number from 1 to 10000',
  },
  {
    what: "k over the limit",
    args: () => ["search", "--gallery", "g", "--k", "10001", at("text.onnx")],
    code: "USAGE",
    exit: 2,
    says: () => '--k is "10001": expected a whole number from 1 to 10000',
  },
  {
    what: "an encoder file that is not ONNX",
    args: () => imported("text.onnx"),
    code: "ONNX_MALFORMED",
    exit: 1,
    says: () =>
      "not a valid ONNX model, its bytes do not decode: pass an .onnx file as the exporter wrote it",
  },
  {
    what: "an encoder file of two inputs",
    args: () => imported("two.onnx"),
    code: "ENCODER_INPUTS",
    exit: 1,
    says: () =>
      'encoder takes 2 inputs "image" float32 [batch, 3, 8, 4] and "camera" float32 [batch, 3, 8, 4], expected ' +
      "one float32 input [batch, 3, height, width]: export it with the image as its only input",
  },
  {
    what: "an encoder file that ends in no feature",
    args: () => imported("map.onnx"),
    code: "ENCODER_OUTPUT",
    exit: 1,
    says: () =>
      'encoder gives output "map" float32 [batch, 3, 8, 4], expected one feature [batch, D]: ' +
      "name the node that makes it with --feature-node",
  },
  {
    what: "a data folder that is missing, where none is to be made",
    args: () => ["index", "check", "--data", at("nowhere")],
    code: "CONFIG_INVALID",
    exit: 2,
    says: () =>
      `--data is ${at("nowhere")}, which holds no store: expected the folder that reid serve --data was given`,
  },
  {
    what: "a folder to make that is a file",
    args: () => [
      ...["synth", "--domain", "source", "--ids", "1"],
      ...["--out", at("text.onnx")],
    ],
    code: "CONFIG_INVALID",
    exit: 2,
    says: () =>
      `out is "${at("text.onnx")}", which is no folder: expected a folder that does not exist or is empty`,
  },
  {
    what: "a models folder to serve that is a file",
    args: () => serve("--data", at("served"), "--models", at("text.onnx")),
    code: "CONFIG_INVALID",
    exit: 2,
    says: () => noModels(at("text.onnx"), "no folder"),
  },
  {
    what: "a models folder to serve below a file",
    args: () => serve("--data", at("served"), "--models", at("text.onnx/m")),
    code: "CONFIG_INVALID",
    exit: 2,
    says: () => noModels(at("text.onnx/m"), "no folder"),
  },
  {
    what: "a models folder to list that is a file",
    args: () => ["models", "list", "--models", at("text.onnx")],
    code: "CONFIG_INVALID",
    exit: 2,
    says: () => noModels(at("text.onnx"), "no folder"),
  },
  {
    what: "a models folder to list that is missing",
    args: () => ["models", "list", "--models", at("nowhere")],
    code: "CONFIG_INVALID",
    exit: 2,
    says: () => noModels(at("nowhere"), "not there"),
  },
  {
    what: "a data folder that is a file",
    args: () => serve("--data", at("text.onnx")),
    code: "CONFIG_INVALID",
    exit: 2,
    says: () =>
      `data folder is ${at("text.onnx")} (ENOTDIR): expected a folder, or a path where one can be made`,
  },
];

describe("reid says what is wrong and what to do, in one line, of", () => {
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "bad-input-"));
    for (const name of ["bare", "unnamed", "text", "DukeMTMC-reID", "models"])
      await mkdir(at(`${name}/bounding_box_train`), { recursive: true });
    await writeFile(at("unnamed/bounding_box_train/person.jpg"), "");
    await writeFile(
      at("text/bounding_box_train/0001_c1s1_000001_00.jpg"),
      "no image",
    );
    await writeFile(at("text.onnx"), "no encoder");
    await writeFile(at("two.onnx"), encoder("two"));
    await writeFile(at("map.onnx"), encoder("map"));
  });
  after(() => rm(root, { recursive: true }));

  for (const { what, args, code, exit, says } of refusals)
    test(what, () => assertRefused(args(), code, exit, says()));

  test("a port that is in use", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) =>
      holder.listen(0, "127.0.0.1", resolve),
    );
    const address = holder.address();
    assert.ok(typeof address === "object" && address !== null);
    const taken = `127.0.0.1:${address.port}`;
    try {
      for (const flag of ["--listen", "--metrics"])
        await assertRefused(
          serve("--data", at(`data${flag}`), flag, taken),
          "LISTEN_FAILED",
          1,
          `cannot listen on ${taken} (the port is in use): choose another port, or stop what uses this one`,
        );
    } finally {
      holder.close();
    }
  });

  test("a data folder that another process has", async () => {
    const data = at("data");
    const store = await Store.open(data, { minFreeBytes: 0 });
    try {
      await assertRefused(
        serve("--data", data),
        "STORE_LOCKED",
        1,
        `data folder ${data} is in use by process ${process.pid}: stop it, or choose another folder`,
      );
    } finally {
      await store.close();
    }
  });
});

async function assertRefused(
  args: readonly string[],
  code: string,
  exit: number,
  says: string,
): Promise<void> {
  const ended = await reid(...args, "--json");
  const lines = ended.stderr.trimEnd().split("\n");
  const line = (lines.at(-1) ?? "").replace(/^reid: /, "");
  assert.equal(line, says);
  const { error } = JSON.parse(ended.stdout) as {
    readonly error: { readonly code: string; readonly message: string };
  };
  assert.deepEqual([error.code, error.message], [code, line]);
  assert.equal(ended.code, exit);
  assert.doesNotMatch(ended.stderr, /\n +at /);
}

function reid(...args: readonly string[]): Promise<{
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], (error, stdout, stderr) => {
      const code = error === null ? 0 : Number(error.code);
      resolve({ code, stdout, stderr });
    });
  });
}

/** An ONNX file of an image and a camera, or of an image alone; it ends in a map either way. */
function encoder(what: "two" | "map"): Uint8Array {
  const dims = ["batch", 3, 8, 4];
  const g = new GraphBuilder(what);
  const image = g.input("image", "float32", dims);
  const made =
    what === "two"
      ? g.op("Add", [image, g.input("camera", "float32", dims)])
      : g.op("Softmax", [image], { axis: int(1) });
  g.output(made, "float32", dims, "map");
  return writeModel({
    graph: g.build(),
    opset: 17,
    irVersion: 8,
    metadata: {},
  });
}
