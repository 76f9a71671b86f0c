import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { badCrops } from "../support/bad-items.js";
import { realFolder, realMissing } from "../support/golden.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  wire = await startWireServer();
});
after(() => wire.close());

/** An answer without what depends on the crop. */
const features = (response: {
  readonly results: readonly {
    readonly feature?: { readonly f32le: Buffer } | null;
  }[];
}) => response.results.map(({ feature }) => feature?.f32le.toString("hex"));

describe("Embed", () => {
  const embed = (crops: object[], more: object = {}) =>
    wire.client.EmbedService.Embed({ crops, ...more });

  test("gives a unit feature for each crop, in order, with the model that made it", async () => {
    const { results, model } = await embed([
      { ...noiseCrop(1), cropId: "a" },
      { ...noiseCrop(2), cropId: "b" },
    ]);
    assert.deepEqual(
      results.map(({ cropId, outcome }) => [cropId, outcome]),
      [
        ["a", "feature"],
        ["b", "feature"],
      ],
    );
    assert.deepEqual({ ...model }, { name: "door", version: 1 });
    assert.equal(results[0].feature?.f32le.length, 48);
  });

  test("gives float16 and plain numbers that agree with float32", async () => {
    const crops = [noiseCrop(1)];
    const [full, half, plain] = await Promise.all([
      embed(crops),
      embed(crops, { encoding: "FEATURE_ENCODING_F16LE" }),
      embed(crops, { encoding: "FEATURE_ENCODING_VALUES" }),
    ]);
    const bytes = new Uint8Array(full.results[0].feature?.f32le ?? []);
    const values = [...new Float32Array(bytes.buffer)];
    assert.equal(half.results[0].feature?.f16le.length, 24);
    assert.deepEqual(plain.results[0].feature?.values, values);
  });

  test("refuses a call with no crops, too many, unknown words and models", async () => {
    await refused(embed([]), "BATCH_TOO_LARGE");
    await refused(
      embed(Array.from({ length: 65 }, () => noiseCrop(1))),
      "BATCH_TOO_LARGE",
    );
    const one = [noiseCrop(1)];
    await refused(embed(one, { priority: 7 }), "FIELD_INVALID");
    await refused(embed(one, { model: { name: "Bad Name" } }), "FIELD_INVALID");
    await refused(embed(one, { model: { name: "nobody" } }), "MODEL_NOT_FOUND");
    await refused(
      embed(one, { model: { name: "door", version: 9 } }),
      "MODEL_NOT_FOUND",
    );
    await refused(
      embed(
        Array.from({ length: 9 }, () => noiseCrop(1)),
        {
          encoding: "FEATURE_ENCODING_VALUES",
        },
      ),
      "FIELD_INVALID",
    );
  });

  for (const { what, crop, reason, field } of badCrops)
    test(`fails one crop with ${what} and leaves its neighbours unharmed`, async () => {
      const alone = await embed([noiseCrop(1), noiseCrop(2)]);
      const { results } = await embed([noiseCrop(1), crop, noiseCrop(2)]);
      assert.equal(results[1].error?.reason, reason);
      assert.equal(results[1].error?.field, `crops[1].${field}`);
      assert.equal(results[1].error?.code, 3);
      assert.deepEqual(
        features({ results: [results[0], results[2]] }),
        features(alone),
      );
    });

  test("pools the crops of a track and says how well they agree", async () => {
    const track = { cameraId: "1", trackId: "t" };
    const { tracks } = await embed(
      [
        { ...noiseCrop(1), ...track },
        { ...noiseCrop(1), ...track },
        { encoded: Buffer.from("broken"), ...track },
        noiseCrop(2),
      ],
      { pooling: "POOLING_TRACK_MEAN" },
    );
    assert.equal(tracks.length, 1);
    assert.equal(tracks[0].cropCount, 2);
    assert.ok(tracks[0].agreement > 0.999);
  });

  test("stops at the deadline", async () => {
    const error = await refused(
      wire.client.EmbedService.Embed(
        { crops: Array.from({ length: 64 }, (_, i) => noiseCrop(i)) },
        { deadlineMs: 1 },
      ),
      "CALL_FAILED",
    );
    assert.equal(error.kind, "deadline-exceeded");
  });

  test("batches the crops of calls that arrive together", async () => {
    await Promise.all(
      Array.from({ length: 6 }, (_, i) => embed([noiseCrop(i)])),
    );
    const { metricsAddress } = wire.server;
    const text = await (
      await fetch(`http://127.0.0.1:${metricsAddress?.port}/metrics`)
    ).text();
    const value = (name: string) =>
      Number(new RegExp(`^${name}\\{[^}]*\\} (\\S+)$`, "m").exec(text)?.[1]);
    assert.ok(value("reid_batch_size_sum") > value("reid_batch_size_count"));
    assert.match(text, /rpc_server_call_duration_seconds_count/);
  });
});

describe("StreamEmbed", () => {
  type Answer = {
    readonly message?: string;
    readonly opened?: { readonly window: number } | null;
    readonly result?: {
      readonly correlationId: string;
      readonly result: {
        readonly error?: { readonly reason: string } | null;
      } | null;
    } | null;
    readonly track?: { readonly cropCount: number } | null;
  };
  const talk = (messages: readonly object[], to = wire) =>
    new Promise<{ answers: Answer[]; code: number }>((resolve) => {
      const stream = to.client.streamEmbed();
      const answers: Answer[] = [];
      let code = 0;
      stream.on("data", (answer: Answer) => answers.push(answer));
      stream.on("error", (error: { code?: number }) => {
        code = error.code ?? -1;
      });
      stream.on("status", (status: { code: number }) =>
        resolve({ answers, code: status.code || code }),
      );
      for (const message of messages) stream.write(message);
      stream.end();
    });

  test("answers every crop, a broken one with its reason, and the track at half-close", async () => {
    const track = { cameraId: "1", trackId: "t" };
    const { answers, code } = await talk([
      { open: { pooling: "POOLING_TRACK_MEAN", window: 8 } },
      { crop: { correlationId: "1", crop: { ...noiseCrop(1), ...track } } },
      { crop: { correlationId: "2", crop: { encoded: Buffer.from("no") } } },
      { crop: { correlationId: "3", crop: { ...noiseCrop(3), ...track } } },
      { crop: { correlationId: "4" } },
    ]);
    assert.equal(code, 0);
    assert.equal(answers[0].opened?.window, 8);
    const results = answers.flatMap(({ result }) => result ?? []);
    assert.deepEqual(results.map((one) => one.correlationId).sort(), [
      "1",
      "2",
      "3",
      "4",
    ]);
    const reasonOf = (id: string) =>
      results.find(({ correlationId }) => correlationId === id)?.result?.error
        ?.reason;
    assert.equal(reasonOf("2"), "CROP_UNDECODABLE");
    assert.equal(reasonOf("4"), "CROP_EMPTY");
    assert.equal(answers.at(-1)?.track?.cropCount, 2);
  });

  test("reads no further while the queue is full, and answers every crop", async () => {
    // Regression: crops within the window were refused with OVERLOADED.
    const narrow = await startWireServer({ limits: { queue_interactive: 2 } });
    try {
      const count = 40;
      const { answers, code } = await talk(
        [
          { open: { window: 64 } },
          ...Array.from({ length: count }, (_, i) => ({
            crop: { correlationId: String(i), crop: noiseCrop(i) },
          })),
        ],
        narrow,
      );
      assert.equal(code, 0);
      const results = answers.flatMap(({ result }) => result ?? []);
      assert.equal(results.length, count);
      assert.deepEqual(
        results.filter(({ result }) => result?.error),
        [],
      );
    } finally {
      await narrow.close();
    }
  });

  test("refuses a crop beyond the window for itself, and lives", async () => {
    const { answers, code } = await talk([
      { open: { window: 1 } },
      ...[1, 2, 3].map((id) => ({
        crop: { correlationId: String(id), crop: noiseCrop(id) },
      })),
    ]);
    const reasons = answers.flatMap(({ result }) =>
      result === null || result === undefined
        ? []
        : [result.result?.error?.reason ?? "ok"],
    );
    assert.equal(code, 0);
    assert.deepEqual(reasons.sort(), ["OVERLOADED", "OVERLOADED", "ok"]);
  });

  test("ends with INVALID_ARGUMENT where the first message is not open", async () => {
    const { code } = await talk([
      { crop: { correlationId: "1", crop: noiseCrop(1) } },
    ]);
    assert.equal(code, 3);
  });
});

describe("odd images over the wire", () => {
  const folder = join(realFolder, "odd-images");
  const missing = realMissing("odd-images");

  test(
    "are accepted or refused as their manifest says, in every position of a batch",
    { skip: missing },
    async () => {
      const { files } = JSON.parse(
        await readFile(join(folder, "manifest.json"), "utf8"),
      ) as { files: readonly OddImage[] };
      const clean = await wire.client.EmbedService.Embed({
        crops: [noiseCrop(1), noiseCrop(2)],
      });
      const problems: string[] = [];
      for (const file of files) {
        const encoded = await readFile(join(folder, file.file));
        for (const position of [0, 1, 2]) {
          const crops: object[] = [noiseCrop(1), noiseCrop(2)];
          crops.splice(position, 0, { encoded });
          const { results } = await wire.client.EmbedService.Embed({ crops });
          const [odd] = results.splice(position, 1);
          if (features({ results }).join() !== features(clean).join())
            problems.push(`${file.file}: its neighbours have changed`);
          const reason = odd.error?.reason ?? "accepted";
          const wanted = wantedOf(file);
          if (!wanted.includes(reason))
            problems.push(
              `${file.file}: ${reason}, expected ${wanted.join(" or ")}`,
            );
        }
      }
      assert.deepEqual(problems, []);
    },
  );
});

interface OddImage {
  readonly file: string;
  readonly format: string;
  readonly bytes: number;
  readonly expect: "accept" | "reject";
  readonly arguable: boolean;
  readonly width?: number;
  readonly height?: number;
}

/** Outcomes that are right for a file: outside the API's limits or formats it is refused whatever the manifest says. */
function wantedOf(file: OddImage): readonly string[] {
  const refusals = [
    "CROP_EMPTY",
    "CROP_UNDECODABLE",
    "CROP_TOO_LARGE",
    "CROP_TOO_SMALL",
  ];
  const { width = 64, height = 64 } = file;
  if (!["jpeg", "png", "webp"].includes(file.format) && file.bytes > 0)
    return ["CROP_UNDECODABLE"];
  if (file.expect === "accept") {
    if (Math.min(width, height) < 8) return ["CROP_TOO_SMALL"];
    const isLarge =
      Math.max(width, height) > 4096 || width * height > 4 * 1024 * 1024;
    if (isLarge || file.bytes > 4 * 1024 * 1024) return ["CROP_TOO_LARGE"];
    return file.arguable ? ["accepted", "CROP_UNDECODABLE"] : ["accepted"];
  }
  return file.arguable ? ["accepted", ...refusals] : refusals;
}
