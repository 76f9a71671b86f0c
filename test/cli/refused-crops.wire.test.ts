import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { encodePng } from "#core/image";
import { reid } from "../support/reid-command.js";
import { startWireServer, type WireServer } from "../support/wire-server.js";

/** What `--json` prints of a command that sends crops. */
interface Printed {
  readonly results?: readonly { readonly reason?: string }[];
  readonly failed?: readonly { readonly reason: string }[];
  readonly error?: { readonly code: string; readonly message: string };
}

describe("crops that the server refuses", () => {
  let wire: WireServer;
  let folder = "";
  const [text, empty, good] = ["text.jpg", "empty.jpg", "good.png"];
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "refused-"));
    await writeFile(join(folder, text), "no image");
    await writeFile(join(folder, empty), "");
    const data = new Uint8Array(16 * 8 * 3).fill(90);
    const crop = await encodePng({ data, heightPx: 16, widthPx: 8 });
    await writeFile(join(folder, good), crop);
    wire = await startWireServer();
    await wire.client.GalleryService.CreateGallery({
      gallery: { name: "door", index: { flat: {} } },
    });
  });
  after(async () => {
    await wire.close();
    await rm(folder, { recursive: true });
  });

  const run = async (words: readonly string[], files: readonly string[]) => {
    const paths = files.map((name) => join(folder, name));
    const flags = ["--address", wire.address, "--json"];
    const { code, stdout, stderr } = await reid(...words, ...paths, ...flags);
    assert.match(stdout, /^[^\n]+\n$/);
    return { code, printed: JSON.parse(stdout) as Printed, said: stderr };
  };

  const commands = [
    { words: ["embed"], verb: "embedded" },
    { words: ["enroll", "--gallery", "door"], verb: "enrolled" },
    { words: ["search", "--gallery", "door"], verb: "searched with" },
    { words: ["identify", "--gallery", "door"], verb: "identified" },
  ];
  for (const { words, verb } of commands) {
    const reasonsIn = ({ results = [], failed = [] }: Printed) =>
      [...results, ...failed].flatMap(({ reason }) => reason ?? []);

    test(`fail reid ${words[0]} with one line where none is left, their reasons beside it`, async () => {
      const { code, printed, said } = await run(words, [text, empty]);
      assert.equal(code, 1);
      assert.equal(printed.error?.code, "CROPS_REFUSED");
      assert.equal(
        printed.error.message,
        `none of 2 crops could be ${verb} (CROP_EMPTY, CROP_UNDECODABLE): ` +
          "see each one's reason in the output, and give others",
      );
      assert.ok(said.endsWith(`reid: ${printed.error.message}\n`));
      assert.deepEqual(reasonsIn(printed), ["CROP_UNDECODABLE", "CROP_EMPTY"]);
    });

    test(`are listed by reid ${words[0]}, which succeeds, where another is taken`, async () => {
      const { code, printed, said } = await run(words, [text, good]);
      assert.equal(code, 0, said);
      assert.equal(printed.error, undefined);
      assert.deepEqual(reasonsIn(printed), ["CROP_UNDECODABLE"]);
      assert.match(said, /text\.jpg: crop of 8 bytes/);
    });
  }
});
