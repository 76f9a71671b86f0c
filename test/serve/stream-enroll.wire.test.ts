import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { errorFromCall, type Client } from "#cli/client";
import type { ReidError } from "#core/errors";
import { badInputs } from "../support/bad-items.js";
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

type Stream = ReturnType<Client["streamEnroll"]>;
type Failed = Parameters<typeof errorFromCall>[0];

interface Answer {
  readonly opened?: {
    readonly window: number;
    readonly model: object | null;
  } | null;
  readonly commit?: {
    readonly results: readonly {
      readonly correlationId: string;
      readonly result: {
        readonly entryId: string;
        readonly sequence: string;
        readonly error: {
          readonly reason: string;
          readonly field: string;
        } | null;
      } | null;
    }[];
    readonly sequence: string;
  } | null;
}

/** A stream with what came back on it. */
class Conversation {
  readonly answers: Answer[] = [];
  readonly stream: Stream;
  /** How it ended: undefined with OK. */
  readonly ended: Promise<ReidError | undefined>;

  constructor(client: Client, messages: readonly object[]) {
    this.stream = client.streamEnroll();
    this.stream.on("data", (answer: Answer) => this.answers.push(answer));
    this.ended = new Promise((resolve) => {
      this.stream.on("error", (error: Failed) => resolve(errorFromCall(error)));
      this.stream.on("end", () => resolve(undefined));
    });
    this.say(messages);
  }

  say(messages: readonly object[]): void {
    for (const message of messages) this.stream.write(message);
  }

  /** The next answer that is a commit. */
  async commit(): Promise<NonNullable<Answer["commit"]>> {
    for (;;) {
      const [answer] = (await once(this.stream, "data")) as [Answer];
      if (answer.commit) return answer.commit;
    }
  }

  /** Half-closes and waits for the end. */
  async finish(): Promise<ReidError | undefined> {
    this.stream.end();
    return this.ended;
  }

  get results() {
    return this.answers.flatMap(({ commit }) => commit?.results ?? []);
  }

  /** Outcome of an enrolment: `ok` or the reason. */
  outcome(correlationId: number): string | undefined {
    const found = this.results.filter(
      (one) => one.correlationId === String(correlationId),
    );
    assert.ok(found.length <= 1, `two answers to ${correlationId}`);
    return found[0] && (found[0].result?.error?.reason ?? "ok");
  }
}

let made = 0;
async function newGallery(to = wire, more: object = {}): Promise<string> {
  const name = `g${made++}`;
  await to.client.GalleryService.CreateGallery({
    gallery: { name, index: { flat: {} }, ...more },
  });
  return name;
}

const open = (gallery: string, more: object = {}) => ({
  open: { gallery, ...more },
});
const item = (correlationId: number, enrollment: object) => ({
  enrollment: { correlationId: String(correlationId), item: enrollment },
});
const named = (id: number, entryId = `e${id}`) =>
  item(id, { feature: unitFeature(id), entry: { entryId } });
const entriesOf = async (gallery: string, to = wire) =>
  (await to.client.GalleryService.ListEntries({ gallery, pageSize: 1000 }))
    .entries;

describe("StreamEnroll", () => {
  test("answers every enrolment in a commit, and every later read sees it", async () => {
    const gallery = await newGallery();
    const talk = new Conversation(wire.client, [
      open(gallery),
      ...Array.from({ length: 500 }, (_, i) => named(i)),
      item(500, {
        crop: { ...noiseCrop(1), cameraId: "3" },
        entry: { entryId: "crop" },
      }),
    ]);
    assert.equal(await talk.finish(), undefined);
    assert.equal(talk.answers[0].opened?.window, 1024);
    assert.deepEqual(
      { ...talk.answers[0].opened?.model },
      { name: "door", version: 1 },
    );
    assert.equal(talk.results.length, 501);
    const sequences = talk.results.map(({ result }) =>
      Number(result?.sequence),
    );
    assert.deepEqual(
      sequences.sort((a, b) => a - b),
      Array.from({ length: 501 }, (_, i) => i + 1),
    );
    for (const { commit } of talk.answers.slice(1)) {
      const last = commit?.results.at(-1)?.result?.sequence;
      assert.ok(Number(commit?.sequence) >= Number(last));
      assert.ok((commit?.results.length ?? 0) <= 1024);
    }
    const entries = await entriesOf(gallery);
    assert.equal(entries.length, 501);
    assert.equal(
      entries.find(({ entryId }) => entryId === "crop")?.cameraId,
      "3",
    );
  });

  test("answers at most 1024 enrolments in one commit, however many came at once", async () => {
    const gallery = await newGallery();
    const talk = new Conversation(wire.client, [
      open(gallery, { window: 4096 }),
      ...Array.from({ length: 4096 }, (_, i) => named(i)),
    ]);
    assert.equal(await talk.finish(), undefined);
    assert.equal(talk.answers[0].opened?.window, 4096);
    const counts = talk.answers.flatMap(({ commit }) =>
      commit ? [commit.results.length] : [],
    );
    assert.ok(Math.max(...counts) <= 1024, counts.join());
    const outcomes = new Set(
      talk.results.map(({ result }) => result?.error?.reason ?? "ok"),
    );
    assert.deepEqual([talk.results.length, ...outcomes], [4096, "ok"]);
  });

  test("says that it is open, and commits a single enrolment without waiting for others", async () => {
    const talk = new Conversation(wire.client, [
      open(await newGallery(), { window: 7 }),
    ]);
    const [{ opened }] = (await once(talk.stream, "data")) as [Answer];
    assert.equal(opened?.window, 7);
    talk.say([named(1)]);
    assert.equal((await talk.commit()).sequence, "1");
    talk.say([named(2)]);
    assert.equal((await talk.commit()).sequence, "2");
    assert.equal(await talk.finish(), undefined);
  });

  test("gives each enrolment its own failure, with its path, and leaves the others unharmed", async () => {
    const gallery = await newGallery();
    const broken: readonly (readonly [object, string, string])[] = [
      ...badInputs.map(
        ({ input, reason, field }) => [input, reason, `.${field}`] as const,
      ),
      [{}, "FIELD_INVALID", ""],
      [
        { feature: unitFeature(1), ttl: { seconds: "-1" } },
        "FIELD_INVALID",
        ".ttl",
      ],
      [
        { feature: unitFeature(1), entry: { attributes: { "No Key": "1" } } },
        "FIELD_INVALID",
        ".entry.attributes",
      ],
    ];
    const talk = new Conversation(wire.client, [
      open(gallery),
      named(100),
      ...broken.map(([enrollment], i) => item(i, enrollment)),
      { enrollment: { correlationId: "99" } },
      named(101),
    ]);
    assert.equal(await talk.finish(), undefined);
    const failures = new Map(
      talk.results.map(({ correlationId, result }) => [
        correlationId,
        result?.error,
      ]),
    );
    for (const [i, [, reason, field]] of broken.entries())
      assert.deepEqual(
        [failures.get(String(i))?.reason, failures.get(String(i))?.field],
        [reason, `enrollment.item${field}`],
      );
    assert.equal(failures.get("99")?.reason, "FIELD_INVALID");
    assert.deepEqual(
      (await entriesOf(gallery)).map(({ entryId }) => entryId).sort(),
      ["e100", "e101"],
    );
  });

  test("refuses crops where features are made elsewhere, for themselves", async () => {
    const model = { name: "external", version: 1 };
    const gallery = await newGallery(wire, { model, dimension: 12 });
    const talk = new Conversation(wire.client, [
      open(gallery),
      item(1, { crop: noiseCrop(1) }),
      item(2, { feature: { ...unitFeature(1), model } }),
    ]);
    assert.equal(await talk.finish(), undefined);
    assert.deepEqual(
      [1, 2].map((id) => talk.outcome(id)),
      ["MODEL_INCOMPATIBLE", "ok"],
    );
  });

  test("commits in the order of arrival: the last under an id stays", async () => {
    const gallery = await newGallery();
    const twice = (id: number, input: object, identity: string) =>
      item(id, { ...input, entry: { entryId: "same", identity } });
    const talk = new Conversation(wire.client, [
      open(gallery),
      twice(1, { crop: noiseCrop(1) }, "first"),
      twice(2, { feature: unitFeature(2) }, "last"),
    ]);
    assert.equal(await talk.finish(), undefined);
    const entries = await entriesOf(gallery);
    assert.deepEqual(
      entries.map(({ identity }) => identity),
      ["last"],
    );
  });

  test("does with an id that is taken what open says", async () => {
    const gallery = await newGallery();
    for (const [onExisting, outcome, sequence] of [
      ["ON_EXISTING_UNSPECIFIED", "ok", "1"],
      ["ON_EXISTING_KEEP", "ok", "1"],
      ["ON_EXISTING_FAIL", "ENTRY_EXISTS", "0"],
      ["ON_EXISTING_REPLACE", "ok", "2"],
    ] as const) {
      const talk = new Conversation(wire.client, [
        open(gallery, { onExisting }),
        named(1, "taken"),
      ]);
      assert.equal(await talk.finish(), undefined);
      assert.equal(talk.outcome(1), outcome);
      assert.equal(talk.results[0].result?.sequence, sequence);
    }
  });

  test("refuses what is beyond the window for itself, and lives", async () => {
    const talk = new Conversation(wire.client, [
      open(await newGallery(), { window: 1 }),
      item(1, { crop: noiseCrop(1) }),
      named(2),
      named(3),
    ]);
    assert.equal(await talk.finish(), undefined);
    assert.deepEqual(
      [1, 2, 3].map((id) => talk.outcome(id)),
      ["ok", "OVERLOADED", "OVERLOADED"],
    );
  });

  test("refuses what is beyond max_entries with GALLERY_FULL", async () => {
    const gallery = await newGallery(wire, { maxEntries: "2" });
    const talk = new Conversation(wire.client, [
      open(gallery),
      named(1),
      named(2),
      named(3),
    ]);
    assert.equal(await talk.finish(), undefined);
    assert.deepEqual(
      [1, 2, 3].map((id) => talk.outcome(id)),
      ["ok", "ok", "GALLERY_FULL"],
    );
  });

  for (const [what, messages, reason, field] of [
    ["an enrolment before open", [named(1)], "FIELD_INVALID", "open"],
    ["an empty message", [{}], "FIELD_INVALID", "message"],
    [
      "a gallery that is not there",
      [open("nowhere"), named(1)],
      "GALLERY_NOT_FOUND",
      undefined,
    ],
    ["no gallery", [open("")], "FIELD_INVALID", "open.gallery"],
    [
      "a window of 4097",
      [open("g0", { window: 4097 })],
      "FIELD_INVALID",
      "open.window",
    ],
    [
      "an unknown on_existing",
      [open("g0", { onExisting: 9 })],
      "FIELD_INVALID",
      "open.on_existing",
    ],
    [
      "an unknown priority",
      [open("g0", { priority: 9 })],
      "FIELD_INVALID",
      "open.priority",
    ],
    ["a second open", [open("g0"), open("g0")], "FIELD_INVALID", "open"],
    [
      "a correlation id that is in flight",
      [open("g0"), item(7, { crop: noiseCrop(1) }), named(7)],
      "FIELD_INVALID",
      "enrollment.correlation_id",
    ],
  ] as const)
    test(`ends with ${reason} at ${what}`, async () => {
      const error = await new Conversation(wire.client, messages).ended;
      assert.equal(error?.code, reason);
      assert.equal(error?.facts["field"], field);
    });

  test("of many clients at once loses nothing and gives no sequence twice", async () => {
    const gallery = await newGallery();
    const talks = Array.from(
      { length: 8 },
      (_, client) =>
        new Conversation(wire.client, [
          open(gallery),
          ...Array.from({ length: 100 }, (__, i) =>
            named(i, `c${client}-${i}`),
          ),
        ]),
    );
    for (const talk of talks) assert.equal(await talk.finish(), undefined);
    const sequences = talks.flatMap(({ results }) =>
      results.map(({ result }) => Number(result?.sequence)),
    );
    assert.deepEqual(
      sequences.sort((a, b) => a - b),
      Array.from({ length: 800 }, (_, i) => i + 1),
    );
    assert.equal((await entriesOf(gallery)).length, 800);
  });

  test("that breaks keeps what was committed and nothing else", async () => {
    // Crops of a batch wait a second for others: the stream is gone before they are embedded.
    const slow = await startWireServer({ inference: { window_ms: 1000 } });
    try {
      const gallery = await newGallery(slow);
      const talk = new Conversation(slow.client, [open(gallery), named(1)]);
      await talk.commit();
      talk.say([
        item(2, { crop: noiseCrop(2), entry: { entryId: "e2" } }),
        named(3),
      ]);
      const active = async () => {
        const { port } = slow.server.metricsAddress ?? { port: 0 };
        const text = await (
          await fetch(`http://127.0.0.1:${port}/metrics`)
        ).text();
        return /^reid_stream_active\{rpc_method="reid.v1.GalleryService\/StreamEnroll"\} (\d+)$/m.exec(
          text,
        )?.[1];
      };
      assert.equal(await active(), "1");
      talk.stream.cancel();
      assert.equal((await talk.ended)?.kind, "cancelled");
      // Behind the crops of the broken stream in the same queue.
      const { results } = await slow.client.GalleryService.Enroll({
        gallery,
        priority: "PRIORITY_BULK",
        enrollments: [{ crop: noiseCrop(4), entry: { entryId: "e4" } }],
      });
      assert.equal(results[0].sequence, "2");
      const ids = (await entriesOf(gallery, slow)).map(
        (entry) => entry.entryId,
      );
      assert.deepEqual(ids, ["e1", "e4"]);
      assert.equal(await active(), "0");
    } finally {
      await slow.close();
    }
  });

  test("ends with SHUTTING_DOWN when the server ends, what was taken answered", async () => {
    const ending = await startWireServer();
    const gallery = await newGallery(ending);
    const talk = new Conversation(ending.client, [
      open(gallery),
      ...Array.from({ length: 50 }, (_, i) => named(i)),
    ]);
    await talk.commit();
    const closing = ending.server.close();
    assert.equal((await talk.ended)?.code, "SHUTTING_DOWN");
    await closing;
    await ending.close();
    assert.ok(talk.results.length > 0);
    assert.ok(talk.results.every(({ result }) => result?.error === null));
  });

  test("ends with STORE_FULL where the disk is full, and keeps what was committed", async () => {
    const full = await startFillableServer();
    try {
      const gallery = await newGallery(full);
      const talk = new Conversation(full.client, [open(gallery), named(1)]);
      await talk.commit();
      await full.fill();
      talk.say([named(2)]);
      assert.equal((await talk.ended)?.code, "STORE_FULL");
      assert.equal((await entriesOf(gallery, full)).length, 1);
    } finally {
      await full.close();
    }
  });

  test("ends with GALLERY_NOT_FOUND where the gallery is deleted meanwhile", async () => {
    const gallery = await newGallery();
    const talk = new Conversation(wire.client, [open(gallery), named(1)]);
    await talk.commit();
    await wire.client.GalleryService.DeleteGallery({ gallery });
    talk.say([named(2)]);
    assert.equal((await talk.ended)?.code, "GALLERY_NOT_FOUND");
    await refused(entriesOf(gallery), "GALLERY_NOT_FOUND");
  });
});
