import assert from "node:assert/strict";
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  listBundles,
  readBundle,
  resolveBundle,
  writeBundle,
  writeBundleFolder,
} from "#core/manifest";
import {
  BundleNotFoundError,
  ManifestError,
  ModelNameError,
} from "#core/manifest-errors";

const facts = {
  heightPx: 64,
  widthPx: 32,
  dimension: 128,
  metrics: { mAP: 0.5 },
};
const encoder = Buffer.from("bytes of an encoder");

describe("model bundles", () => {
  let folder = "";
  before(async () => void (folder = await mkdtemp(join(tmpdir(), "bundles-"))));
  after(() => rm(folder, { recursive: true }));

  test("get rising versions, and come back as they were written", async () => {
    const models = join(folder, "rising");
    for (const version of [1, 2, 3]) {
      const written = await writeBundle(models, "door", encoder, {
        ...facts,
        parentVersion: version - 1,
      });
      assert.equal(written.manifest.version, version);
      const read = await readBundle(join(models, "door", String(version)));
      assert.deepEqual(read.manifest, written.manifest);
      assert.deepEqual(Buffer.from(read.encoder), encoder);
    }
  });

  test("get different versions when many are written at once", async () => {
    const models = join(folder, "at-once");
    const written = await Promise.all(
      Array.from({ length: 8 }, () =>
        writeBundle(models, "door", encoder, facts),
      ),
    );
    const versions = written.map(({ manifest }) => manifest.version).sort();
    assert.deepEqual(versions, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(
      (await readdir(join(models, "door"))).sort(),
      versions.map(String),
    );
  });

  test("hold no time: the same encoder and facts give the same bytes", async () => {
    for (const name of ["a", "b"])
      await writeBundleFolder(join(folder, name), "run", encoder, facts);
    const [a, b] = await Promise.all(
      ["a", "b"].map((name) => readFile(join(folder, name, "manifest.json"))),
    );
    assert.deepEqual(a, b);
  });

  test("are refused a name that a file has, and a folder that is a file", async () => {
    const models = join(folder, "in-the-way");
    await mkdir(models);
    await writeFile(join(models, "door"), "");
    for (const [where, name] of [
      [models, "door"],
      [join(models, "door"), "gate"],
    ])
      await assert.rejects(writeBundle(where, name, encoder, facts), {
        code: "CONFIG_INVALID",
        message:
          /^output folder is .*door.* \((EEXIST|ENOTDIR)\): expected a folder, or a path/,
      });
  });

  test("of a run are replaced whole", async () => {
    const bundle = join(folder, "run/bundle");
    await writeBundleFolder(bundle, "run", encoder, facts);
    await writeBundleFolder(bundle, "run", Buffer.from("newer"), facts);
    assert.equal(
      Buffer.from((await readBundle(bundle)).encoder).toString(),
      "newer",
    );
    assert.deepEqual(await readdir(join(folder, "run")), ["bundle"]);
  });

  test("are found by run folder, bundle folder, and MODELS/NAME with the newest version", async () => {
    const models = join(folder, "found");
    for (let i = 0; i < 11; i++)
      await writeBundle(models, "door", encoder, facts);
    // 11 is newer than 9, though it sorts before it as text.
    assert.equal(
      await resolveBundle(join(models, "door")),
      join(models, "door", "11"),
    );
    assert.equal(
      await resolveBundle(join(models, "door/3")),
      join(models, "door/3"),
    );
    await writeBundleFolder(
      join(folder, "some-run/bundle"),
      "run",
      encoder,
      facts,
    );
    assert.equal(
      await resolveBundle(join(folder, "some-run")),
      join(folder, "some-run/bundle"),
    );
    for (const path of [join(folder, "nowhere"), folder])
      await assert.rejects(resolveBundle(path), BundleNotFoundError);
  });

  test("are refused where the encoder is not the manifest's, or is missing", async () => {
    const { folder: bundle } = await writeBundle(
      join(folder, "changed"),
      "door",
      encoder,
      facts,
    );
    await writeFile(join(bundle, "encoder.onnx"), "other bytes");
    await assert.rejects(
      readBundle(bundle),
      /encoder\.onnx has SHA-256 [0-9a-f]{12}…, the manifest says/,
    );
    await rm(join(bundle, "encoder.onnx"));
    await assert.rejects(readBundle(bundle), ManifestError);
  });

  test("are refused where a field is missing or wrong, naming it", async () => {
    const { folder: bundle, manifest } = await writeBundle(
      join(folder, "wrong"),
      "door",
      encoder,
      facts,
    );
    const broken: Readonly<Record<string, unknown>> = {
      format: 2,
      name: "Not A Name",
      version: -1,
      sha256: "short",
      heightPx: 0,
      dimension: 1.5,
      metrics: { mAP: "high" },
    };
    for (const [field, value] of Object.entries(broken)) {
      await writeFile(
        join(bundle, "manifest.json"),
        JSON.stringify({ ...manifest, [field]: value }),
      );
      await assert.rejects(readBundle(bundle), (error) => {
        assert.ok(error instanceof ManifestError);
        assert.match(error.message, new RegExp(`${field} is`));
        return true;
      });
    }
    await writeFile(join(bundle, "manifest.json"), "{ half");
    await assert.rejects(readBundle(bundle), ManifestError);
  });

  test("are listed by name and version, broken ones apart", async () => {
    const models = join(folder, "listed");
    for (const name of ["b", "a", "b"])
      await writeBundle(models, name, encoder, facts);
    await mkdir(join(models, "a/2"), { recursive: true });
    const { bundles, broken } = await listBundles(models);
    assert.deepEqual(
      bundles.map(({ manifest }) => `${manifest.name}/${manifest.version}`),
      ["a/1", "b/1", "b/2"],
    );
    assert.deepEqual(
      broken.map((bundle) => bundle.folder),
      [join(models, "a/2")],
    );
    assert.deepEqual(await listBundles(join(folder, "nowhere")), {
      bundles: [],
      broken: [],
    });
  });

  test("refuse names that are none", async () => {
    for (const name of ["", "Door", "../door", ".hidden", "a".repeat(64), "ü"])
      await assert.rejects(
        writeBundle(folder, name, encoder, facts),
        ModelNameError,
      );
  });
});
