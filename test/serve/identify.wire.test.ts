import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { normalizeRows } from "#core/vectors";
import { badInputs } from "../support/bad-items.js";
import { assertClose } from "../support/close.js";
import { startFillableServer } from "../support/fillable-server.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

let wire: WireServer;
before(async () => {
  wire = await startWireServer();
});
after(() => wire.close());

const model = { name: "door", version: 1 };

/** A unit feature of `door/1` with these first numbers; a number at the end of its own makes up the length. */
function along(...numbers: number[]) {
  const feature = new Float32Array(12);
  feature.set(numbers);
  const rest = 1 - numbers.reduce((sum, value) => sum + value * value, 0);
  feature[11] = Math.sqrt(Math.max(0, rest));
  normalizeRows(feature, 12);
  return { f32le: Buffer.from(feature.buffer), model };
}

let made = 0;
/** A gallery of its own with these entries; gives what identifies in it. */
async function galleryOf(enrollments: object[], more: object = {}) {
  const name = `g${made++}`;
  await wire.client.GalleryService.CreateGallery({
    gallery: { name, index: { flat: {} }, ...more },
  });
  if (enrollments.length > 0)
    await wire.client.GalleryService.Enroll({ gallery: name, enrollments });
  return {
    name,
    identify: (request: object) =>
      wire.client.SearchService.Identify({ gallery: name, ...request }),
    entries: async () =>
      (
        await wire.client.GalleryService.ListEntries({
          gallery: name,
          view: "ENTRY_VIEW_FULL",
        })
      ).entries,
  };
}

const entryOf = (identity: string, feature: object, entryId = identity) => ({
  feature,
  entry: { identity, entryId },
});
/** a and b stand at right angles. */
const two = () => [entryOf("a", along(1)), entryOf("b", along(0, 1))];

describe("Identify", () => {
  test("knows who is near and ahead of the next", async () => {
    const { identify } = await galleryOf([
      ...two(),
      entryOf("a", along(0.5), "a2"),
      { feature: along(0.9), entry: { entryId: "nobody's" } },
    ]);
    const answer = await identify({ feature: along(0.9, 0.1) });
    assert.equal(answer.decision, "DECISION_KNOWN");
    assert.equal(answer.identity, "a");
    assert.deepEqual(
      answer.candidates.map(({ identity, entryId }) => [identity, entryId]),
      [
        ["a", "a"],
        ["b", "b"],
      ],
    );
    const [a, b] = answer.candidates;
    assertClose([a.similarity, b.similarity], [0.9, 0.1], { abs: 1e-6 });
    const weights = [0.9, 0.1, 0.6].map((s) => Math.exp(s / 0.05));
    const sum = weights.reduce((total, weight) => total + weight);
    assertClose(
      [a.confidence, b.confidence],
      [weights[0] / sum, weights[1] / sum],
      { rel: 1e-4 },
    );
    assert.equal(answer.confidence, a.confidence);
    assert.equal(answer.entryId, "");
    assert.equal(answer.sequence, "4");
    assert.deepEqual({ ...answer.model }, model);
  });

  test("says AMBIGUOUS of two too close, with the confidence of the best and no name", async () => {
    const { identify, entries } = await galleryOf(two());
    const answer = await identify({
      feature: along(0.68, 0.65),
      enroll: "ENROLL_POLICY_NEW_AND_KNOWN",
    });
    assert.equal(answer.decision, "DECISION_AMBIGUOUS");
    assert.equal(answer.identity, "");
    assert.equal(answer.entryId, "");
    assert.equal(answer.confidence, answer.candidates[0].confidence);
    assert.equal((await entries()).length, 2);
  });

  test("says NEW of nobody near; confidences and nobody's sum to 1", async () => {
    const { identify, entries } = await galleryOf(two());
    const answer = await identify({ feature: along(0.4, 0.1) });
    assert.equal(answer.decision, "DECISION_NEW");
    assert.equal(answer.identity, "");
    const shares = answer.candidates.map(({ confidence }) => confidence);
    assertClose(
      [shares.reduce((total, share) => total + share, answer.confidence)],
      [1],
      { abs: 1e-6 },
    );
    assert.equal((await entries()).length, 2);
  });

  test("says NEW with confidence 1 in an empty gallery", async () => {
    const { identify } = await galleryOf([]);
    const answer = await identify({ feature: along(1) });
    assert.deepEqual(
      [answer.decision, answer.confidence, answer.candidates],
      ["DECISION_NEW", 1, []],
    );
  });

  test("takes θ, margin, filter and number of candidates from the request", async () => {
    const { identify } = await galleryOf(two());
    const feature = along(0.5, 0.44);
    const decision = async (more: object) =>
      (await identify({ feature, ...more })).decision;
    assert.equal(await decision({}), "DECISION_NEW");
    assert.equal(await decision({ minSimilarity: 0.45 }), "DECISION_KNOWN");
    assert.equal(
      await decision({ minSimilarity: 0.45, minMargin: 0.1 }),
      "DECISION_AMBIGUOUS",
    );
    const filtered = await identify({
      feature,
      minSimilarity: -1,
      minMargin: 2,
      filter: { identityNotIn: ["a"] },
    });
    assert.deepEqual(
      [filtered.decision, filtered.identity],
      ["DECISION_KNOWN", "b"],
    );
    const few = await identify({ feature, candidates: 1 });
    assert.deepEqual(
      few.candidates.map(({ identity }) => identity),
      ["a"],
    );
  });

  test("knows one whose similarity is θ, and nobody whose is the next below", async () => {
    const { identify } = await galleryOf(two());
    const feature = along(0.7, 0.1);
    const [{ similarity }] = (await identify({ feature })).candidates;
    const from = async (minSimilarity: number) =>
      (await identify({ feature, minSimilarity })).decision;
    assert.equal(await from(similarity), "DECISION_KNOWN");
    assert.equal(await from(similarity + 2 ** -23), "DECISION_NEW");
  });

  test("looks at the 100 nearest entries that have an identity", async () => {
    const near = along(1);
    const { name, identify } = await galleryOf([
      ...Array.from({ length: 99 }, (_, i) => entryOf("near", near, `n${i}`)),
      // Nearer than all that have one, and as many.
      ...Array.from({ length: 100 }, () => ({ feature: along(0.95, 0.1) })),
      entryOf("second", along(0.5)),
    ]);
    const feature = along(0.95, 0.1);
    const identities = async () =>
      (await identify({ feature })).candidates.map(({ identity }) => identity);
    assert.deepEqual(await identities(), ["near", "second"]);
    await wire.client.GalleryService.Enroll({
      gallery: name,
      enrollments: [entryOf("near", near, "the hundredth")],
    });
    assert.deepEqual(await identities(), ["near"]);
  });

  test("gives as many candidates as are asked for: 5 where none are, 100 at most", async () => {
    const { identify } = await galleryOf(
      Array.from({ length: 101 }, (_, i) => entryOf(`p${i}`, unitFeature(i))),
    );
    for (const [candidates, given] of [
      [0, 5],
      [1, 1],
      [100, 100],
    ])
      assert.equal(
        (await identify({ feature: along(1), candidates })).candidates.length,
        given,
      );
  });

  test("enrols a newcomer under a new identity, as the entry says", async () => {
    const { identify, entries } = await galleryOf(two());
    const answer = await identify({
      crop: {
        ...noiseCrop(1),
        cameraId: "3",
        trackId: "t",
        capturedAt: { seconds: "7" },
      },
      minSimilarity: 1,
      enroll: "ENROLL_POLICY_NEW",
      entry: { entryId: "mine", attributes: { colour: "red" } },
      ttl: { seconds: "3600" },
    });
    assert.match(answer.identity, /^new-[0-9A-HJKMNP-TV-Z]{26}$/);
    assert.deepEqual([answer.entryId, answer.sequence], ["mine", "3"]);
    const entry = (await entries()).find(({ entryId }) => entryId === "mine");
    assert.equal(entry?.identity, answer.identity);
    assert.deepEqual({ ...entry?.attributes }, { colour: "red" });
    assert.deepEqual([entry?.cameraId, entry?.trackId], ["3", "t"]);
    assert.equal(entry?.capturedAt?.seconds, "7");
    assert.ok(entry?.expiresAt);
    const known = await identify({ crop: noiseCrop(1) });
    assert.deepEqual(
      [known.decision, known.identity],
      ["DECISION_KNOWN", answer.identity],
    );
  });

  test("enrols a known one only where the policy says so", async () => {
    const { identify, entries } = await galleryOf(two());
    const feature = along(0.9);
    const policy = (enroll: string) => identify({ feature, enroll });
    assert.equal((await policy("ENROLL_POLICY_NEVER")).entryId, "");
    assert.equal((await policy("ENROLL_POLICY_NEW")).entryId, "");
    const { entryId, identity } = await policy("ENROLL_POLICY_NEW_AND_KNOWN");
    assert.equal(identity, "a");
    const named = (await entries()).filter((entry) => entry.identity === "a");
    assert.deepEqual(named.map((entry) => entry.entryId).sort(), [
      entryId,
      "a",
    ]);
  });

  test("makes one identity of crops of one newcomer in the same instant", async () => {
    const { identify, entries } = await galleryOf(two());
    const answers = await Promise.all(
      Array.from({ length: 8 }, () =>
        identify({
          feature: unitFeature(50),
          minSimilarity: 0.99,
          enroll: "ENROLL_POLICY_NEW_AND_KNOWN",
        }),
      ),
    );
    const decisions = answers.map(({ decision }) => decision).sort();
    assert.deepEqual(decisions, [
      ...Array.from({ length: 7 }, () => "DECISION_KNOWN"),
      "DECISION_NEW",
    ]);
    assert.equal(new Set(answers.map(({ identity }) => identity)).size, 1);
    assert.equal((await entries()).length, 2 + 8);
    const twins = await Promise.all(
      [1, 2].map(() =>
        identify({
          crop: noiseCrop(9),
          minSimilarity: 0.9999,
          enroll: "ENROLL_POLICY_NEW",
        }),
      ),
    );
    assert.equal(new Set(twins.map(({ identity }) => identity)).size, 1);
    assert.equal((await entries()).length, 2 + 8 + 1);
  });

  test("answers a repeated request id as before, whatever was decided, and enrols once", async () => {
    const { identify, entries } = await galleryOf(two());
    for (const feature of [along(0.1), along(0.95)]) {
      const request = {
        feature,
        enroll: "ENROLL_POLICY_NEW",
        requestId: randomUUID(),
      };
      const first = await identify(request);
      const count = (await entries()).length;
      assert.deepEqual(await identify(request), first);
      assert.equal((await entries()).length, count);
      await refused(
        identify({ ...request, candidates: 7 }),
        "REQUEST_ID_REUSED",
      );
    }
    const plain = { feature: along(0.1), requestId: randomUUID() };
    assert.equal((await identify(plain)).decision, "DECISION_KNOWN");
  });

  test("counts its decisions", async () => {
    const { name, identify } = await galleryOf(two());
    await identify({ feature: along(0.9) });
    await identify({ feature: along(0.9) });
    await identify({ feature: along(0.1) });
    const { metricsAddress } = wire.server;
    const text = await (
      await fetch(`http://127.0.0.1:${metricsAddress?.port}/metrics`)
    ).text();
    const value = (decision: string) =>
      new RegExp(
        `^reid_identify_decisions_total\\{gallery="${name}",decision="${decision}"\\} (\\d+)$`,
        "m",
      ).exec(text)?.[1];
    assert.deepEqual(["known", "new"].map(value), ["2", "1"]);
  });

  const good = { feature: along(1) };
  for (const [what, request, field] of [
    ["no input", {}, "input"],
    ["no gallery", { ...good, gallery: "" }, "gallery"],
    ["θ over 1", { ...good, minSimilarity: 1.1 }, "min_similarity"],
    ["a margin over 2", { ...good, minMargin: 2.1 }, "min_margin"],
    ["a margin below 0", { ...good, minMargin: -0.1 }, "min_margin"],
    ["101 candidates", { ...good, candidates: 101 }, "candidates"],
    ["an unknown policy", { ...good, enroll: 9 }, "enroll"],
    ["an unknown priority", { ...good, priority: 9 }, "priority"],
    ["an identity", { ...good, entry: { identity: "x" } }, "entry.identity"],
    ["a ttl of 0", { ...good, ttl: {} }, "ttl"],
    [
      "an empty id in a filter",
      { ...good, filter: { cameraIn: [""] } },
      "filter.camera_in[0]",
    ],
    [
      "no UUID",
      { ...good, enroll: "ENROLL_POLICY_NEW", requestId: "x" },
      "request_id",
    ],
  ] as const)
    test(`refuses ${what}`, async () => {
      const { identify } = await galleryOf([]);
      const { facts } = await refused(identify(request), "FIELD_INVALID");
      assert.equal(facts["field"], field);
    });

  for (const [reason, request] of [
    ["GALLERY_NOT_FOUND", { ...good, gallery: "nowhere" }],
    ["MODEL_MISMATCH", { ...good, model: { name: "door", version: 2 } }],
    ["SEQUENCE_AHEAD", { ...good, minSequence: "99" }],
  ] as const)
    test(`fails with ${reason}`, async () => {
      const { identify } = await galleryOf([]);
      const { facts } = await refused(identify(request), reason);
      assert.equal(facts["field"], undefined);
    });

  for (const { what, input, reason, field } of badInputs)
    test(`fails with ${reason} of ${field}: ${what}`, async () => {
      const { identify } = await galleryOf([]);
      const { facts } = await refused(identify(input), reason);
      assert.equal(facts["field"], field);
    });

  test("refuses crops where features are made elsewhere", async () => {
    const { identify } = await galleryOf([], {
      model: { name: "external", version: 1 },
      dimension: 12,
    });
    await refused(identify({ crop: noiseCrop(1) }), "MODEL_INCOMPATIBLE");
  });

  test("fails with GALLERY_FULL where there is no place for a newcomer", async () => {
    const { identify } = await galleryOf(two(), { maxEntries: "2" });
    const feature = along(0.1);
    await refused(
      identify({ feature, enroll: "ENROLL_POLICY_NEW" }),
      "GALLERY_FULL",
    );
    assert.equal((await identify({ feature })).decision, "DECISION_NEW");
  });

  test("goes on without enrolment where the disk is full", async () => {
    const full = await startFillableServer();
    try {
      await full.client.GalleryService.CreateGallery({
        gallery: { name: "g", index: { flat: {} } },
      });
      await full.fill();
      const identify = (more: object) =>
        full.client.SearchService.Identify({ gallery: "g", ...good, ...more });
      assert.equal((await identify({})).decision, "DECISION_NEW");
      await refused(identify({ enroll: "ENROLL_POLICY_NEW" }), "STORE_FULL");
    } finally {
      await full.close();
    }
  });

  test("fails with OVERLOADED where the queue has no place for its crop", async () => {
    const narrow = await startWireServer({
      limits: { queue_interactive: 1 },
      inference: { workers: 1, threads_per_worker: 1, window_ms: 1000 },
    });
    try {
      await narrow.client.GalleryService.CreateGallery({
        gallery: { name: "g", index: { flat: {} } },
      });
      const outcomes = await Promise.allSettled(
        [1, 2, 3].map((seed) =>
          narrow.client.SearchService.Identify({
            gallery: "g",
            crop: noiseCrop(seed),
          }),
        ),
      );
      const failed = outcomes.flatMap((one) =>
        one.status === "rejected" ? [one.reason as { code: string }] : [],
      );
      assert.ok(failed.length > 0);
      assert.ok(failed.every(({ code }) => code === "OVERLOADED"));
    } finally {
      await narrow.close();
    }
  });
});
