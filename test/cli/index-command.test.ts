import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { describe, test } from "node:test";
import { commands } from "#cli/commands";
import { Output } from "#cli/output";
import { systemClock } from "#core/clock";
import { Store } from "#core/store";
import { bytesFromFeature, galleryTables } from "#index/gallery-records";
import { featureNamed, inFolder, openGalleries } from "../support/galleries.js";
import { reid } from "../support/reid-command.js";

const dimension = 16;

/** A data folder with five entries of two identities in "door" and none in "gate". */
async function fill(data: string): Promise<void> {
  const open = await openGalleries(data);
  const model = { name: "external", version: 1 };
  const door = await open.galleries.create({ name: "door", model, dimension });
  await door.enroll(
    Array.from({ length: 5 }, (_, i) => ({
      entryId: `e${i}`,
      identity: `p${i % 2}`,
      feature: featureNamed(`e${i}`, dimension),
    })),
  );
  await open.galleries.create({ name: "gate", model, dimension });
  await open.close();
}

/** Makes the stored feature of entry e1 twice as long, as no write of ours does. */
async function damage(data: string): Promise<void> {
  const store = await Store.open(data, { minFreeBytes: 0 });
  const tables = galleryTables(store);
  const number = tables.galleries.get("door")?.number ?? 0;
  const feature = featureNamed("e1", dimension).map((value) => 2 * value);
  await store.write((writer) => {
    writer.put(tables.features, [number, 2], bytesFromFeature(feature));
  });
  await store.close();
}

async function run(subcommand: string, data: string, ...flags: string[]) {
  const { code, stdout, stderr } = await reid(
    ...["index", subcommand, "--data", data, "--json", ...flags],
  );
  assert.match(stdout, /^[^\n]+\n$/);
  return {
    code,
    said: stderr,
    printed: JSON.parse(stdout) as {
      readonly galleries?: readonly Record<string, unknown>[];
      readonly error?: { readonly code: string; readonly facts: object };
    },
  };
}

/** What `reid index describe` draws on a terminal. */
async function drawnBy(data: string): Promise<string> {
  const terminal = Object.assign(new PassThrough({ encoding: "utf8" }), {
    isTTY: true,
    columns: 200,
  });
  const { command } = await commands.index();
  await command.subcommands?.["describe"].run?.({
    flags: { data },
    positionals: [],
    out: new Output({
      ...{ stdout: new PassThrough(), stderr: terminal },
      ...{ json: false, quiet: false, clock: systemClock },
    }),
    signal: new AbortController().signal,
    environment: {},
    clock: systemClock,
  });
  return String(terminal.read() ?? "");
}

describe("reid index", () => {
  test("shows how far an index is that is built anew while the folder is opened, and clears the line", () =>
    inFolder(async (data) => {
      await fill(data);
      await rm(join(data, "snapshots"), { recursive: true, force: true });
      const drawn = await drawnBy(data);
      assert.match(drawn, /\u001b\[Kindex door .* 5\/5 /);
      assert.doesNotMatch(drawn, /gate/);
      assert.ok(drawn.endsWith("\r\u001b[K"));
    }));

  test("check finds nothing wrong with galleries that a server closed", () =>
    inFolder(async (data) => {
      await fill(data);
      const { code, printed } = await run("check", data);
      assert.equal(code, 0);
      assert.deepEqual(printed, {
        galleries: [
          {
            gallery: "door",
            entries: 5,
            sequence: 5,
            indexed: 5,
            problems: [],
          },
          {
            gallery: "gate",
            entries: 0,
            sequence: 0,
            indexed: 0,
            problems: [],
          },
        ],
      });
    }));

  test("check exits 1 and prints the problems beside the failure", () =>
    inFolder(async (data) => {
      await fill(data);
      await damage(data);
      const { code, said, printed } = await run("check", data);
      assert.equal(code, 1);
      assert.equal(printed.error?.code, "INDEX_PROBLEMS");
      const [door, gate] = printed.galleries ?? [];
      assert.deepEqual(gate["problems"], []);
      const problems = door["problems"] as readonly string[];
      assert.ok(
        problems.some((one) => /^entry "e1" has a feature of norm 2/.test(one)),
      );
      assert.deepEqual(printed.error.facts, { problems: problems.length });
      for (const problem of problems)
        assert.ok(said.includes(`  ${problem}\n`));
      const other = await run("check", data, "--gallery", "gate");
      assert.equal(other.code, 0);
      assert.equal(other.printed.galleries?.length, 1);
    }));

  test("describe says what each gallery holds", () =>
    inFolder(async (data) => {
      await fill(data);
      const { code, printed } = await run("describe", data);
      assert.equal(code, 0);
      const facts = (printed.galleries ?? []).map(
        ({ name, model, dimension: length, entries, identities, sequence }) => [
          ...[name, model, length],
          ...[entries, identities, sequence],
        ],
      );
      assert.deepEqual(facts, [
        ["door", "external/1", dimension, 5, 2, 5],
        ["gate", "external/1", dimension, 0, 0, 0],
      ]);
    }));

  test("rebuild builds the indexes anew, which check then finds whole", () =>
    inFolder(async (data) => {
      await fill(data);
      const { code, said, printed } = await run("rebuild", data);
      assert.equal(code, 0);
      assert.match(said, /^door: 5 entries indexed anew$/m);
      assert.match(said, /^gate: 0 entries indexed anew$/m);
      assert.equal(printed.galleries?.length, 2);
      assert.equal((await run("check", data)).code, 0);
    }));

  for (const subcommand of ["check", "describe", "rebuild"])
    test(`${subcommand} refuses a gallery that is not there`, () =>
      inFolder(async (data) => {
        await fill(data);
        const { code, printed } = await run(
          ...([subcommand, data, "--gallery", "hall"] as const),
        );
        assert.equal(code, 1);
        assert.equal(printed.error?.code, "GALLERY_NOT_FOUND");
      }));
});
