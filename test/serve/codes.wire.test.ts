import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { ServiceError } from "@grpc/grpc-js";
import { rpcs, type RpcName } from "#serve/rpcs";
import { badInputs } from "../support/bad-items.js";
import { untilMetric } from "../support/metrics.js";
import { failedCall, trailersOf } from "../support/raw-call.js";
import {
  noiseCrop,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const read = (path: string) => readFile(join(root, path), "utf8");

/** What a code comes with: its gRPC status, its details beside ErrorInfo, and facts; api.md section 11. */
interface Column {
  readonly status: number;
  readonly details: readonly string[];
  readonly facts: readonly string[];
}

const column =
  (status: number, ...details: readonly string[]) =>
  (...facts: readonly string[]): Column => ({ status, details, facts });
const invalid = column(3, "BadRequest");
const missing = column(5, "ResourceInfo");
const precondition = column(9);
const quota = column(8, "QuotaFailure");

const columns: Readonly<Record<string, Column>> = {
  FIELD_INVALID: invalid("field", "received"),
  BATCH_TOO_LARGE: invalid("received", "maximum"),
  CROP_EMPTY: invalid(),
  CROP_UNDECODABLE: invalid("format", "receivedBytes"),
  CROP_TOO_LARGE: invalid(),
  CROP_TOO_SMALL: invalid("widthPx", "heightPx"),
  PIXELS_SIZE: invalid("strideBytes", "expectedBytes", "receivedBytes"),
  FEATURE_FORM: invalid(),
  FEATURE_NOT_FINITE: invalid("position"),
  FEATURE_NOT_UNIT: invalid("norm"),
  FEATURE_DIMENSION: invalid("gallery", "expected", "received"),
  FILTER_EMPTY: invalid(),
  PAGE_TOKEN_INVALID: invalid(),
  REQUEST_ID_REUSED: invalid(),
  GALLERY_NOT_FOUND: missing("gallery"),
  ENTRY_NOT_FOUND: missing("gallery", "entryId"),
  MODEL_NOT_FOUND: missing("model"),
  OPERATION_NOT_FOUND: missing("operationId"),
  GALLERY_EXISTS: column(6, "ResourceInfo")("gallery"),
  ENTRY_EXISTS: column(6, "ResourceInfo")("gallery", "entryId"),
  MODEL_MISMATCH: precondition("gallery", "expected", "received"),
  MODEL_INCOMPATIBLE: precondition("expected", "received"),
  SEQUENCE_AHEAD: precondition("requested", "last"),
  OVERLOADED: column(8, "RetryInfo")("queue", "depth"),
  GALLERY_LIMIT: quota("maximum"),
  GALLERY_FULL: quota("gallery", "maximum"),
  STORE_FULL: quota(),
  DEADLINE: column(4)("stage"),
  UNSUPPORTED: column(12)("what"),
};

/** Codes of these services that need more than a server and a disk that is full, and which tests meet them. */
const elsewhere: Readonly<Record<string, string>> = {
  // What waits while a restore takes the gallery's place; and another index while one is built.
  GALLERY_BUSY: "refusals.wire.test.ts",
  MESSAGE_TOO_LARGE: "limits.wire.test.ts",
  NO_ACTIVE_MODEL: "models.wire.test.ts",
  SHUTTING_DOWN: "refusals.wire.test.ts",
  STORE_READ_ONLY: "store.wire.test.ts",
};

/** Services whose every code is met here, RPC by RPC. */
const tested: readonly string[] = [
  "SearchService",
  "GalleryService",
  "OperationService",
];

/** Of who calls, not of what these services do. */
const ofCallers = ["UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED"];

let wire: WireServer;
const disk = { freeBytes: 1e12 };
const external = { name: "external", version: 1 };
const ahead = "99999";
const usedId = randomUUID();

before(async () => {
  wire = await startWireServer(
    {
      store: { min_free_bytes: 1_000_000 },
      limits: { galleries: 3, queue_interactive: 1, queue_bulk: 1 },
      // What occupies the queue does so for as long.
      inference: { window_ms: 1000 },
    },
    { store: { freeBytes: () => Promise.resolve(disk.freeBytes) } },
  );
  const { GalleryService } = wire.client;
  for (const gallery of [
    { name: "g" },
    { name: "outside", model: external, dimension: 12 },
    { name: "one", maxEntries: "1" },
  ])
    await GalleryService.CreateGallery({
      gallery: { ...gallery, index: { flat: {} } },
    });
  await GalleryService.Enroll({
    gallery: "g",
    enrollments: [item("e"), item("f")],
    requestId: usedId,
  });
  await GalleryService.Enroll({ gallery: "one", enrollments: [item("e")] });
});
after(() => wire.close());

function item(entryId: string) {
  return { feature: unitFeature(1), entry: { entryId, identity: entryId } };
}

/** Calls with a disk that is full. */
async function onFullDisk<Result>(work: () => Promise<Result>) {
  disk.freeBytes = 10;
  try {
    return await work();
  } finally {
    disk.freeBytes = 1e12;
  }
}

/** Calls while another call's crop has the only place in its queue. */
async function whileFull<Result>(
  priority: "interactive" | "bulk",
  work: () => Promise<Result>,
): Promise<Result> {
  const waiting = wire.client.EmbedService.Embed({
    crops: [noiseCrop(1)],
    priority: `PRIORITY_${priority === "bulk" ? "BULK" : "INTERACTIVE"}`,
  });
  const queued = `reid_queue_depth{priority="${priority}"}`;
  await untilMetric(wire, queued, (depth) => depth === 1);
  const result = await work();
  await waiting;
  return result;
}

/** How one code of an RPC is met: by a request, or by what is done around one. */
type Meeting =
  | object
  | ((
      call: (request: object) => Promise<ServiceError>,
    ) => Promise<ServiceError>);

const search = { gallery: "g", k: 1, queries: [{ feature: unitFeature(1) }] };
const identify = { gallery: "g", feature: unitFeature(1) };
const enrolling = {
  ...identify,
  feature: unitFeature(9),
  enroll: "ENROLL_POLICY_NEW",
};
const selected = { gallery: "g", selector: { identity: "e" } };
const update = {
  ...selected,
  entry: { identity: "e" },
  updateMask: { paths: ["identity"] },
};
const nowhere = { gallery: "nowhere" };
const noName = { gallery: "No Name" };
const badPage = { pageToken: "rubbish" };
const onFull =
  (request: object): Meeting =>
  (call) =>
    onFullDisk(() => call(request));

/** A bad crop or feature as the whole input of Identify. */
const badIdentify = Object.fromEntries(
  badInputs
    .filter(({ reason }) => reason !== "FIELD_INVALID")
    .map(({ reason, input }) => [reason, { gallery: "g", ...input }]),
);

const meetings: Readonly<
  Partial<Record<RpcName, Readonly<Record<string, Meeting>>>>
> = {
  "SearchService/Search": {
    FIELD_INVALID: { ...search, k: 0 },
    BATCH_TOO_LARGE: { ...search, queries: [] },
    GALLERY_NOT_FOUND: { ...search, ...nowhere },
    MODEL_MISMATCH: { ...search, model: { name: "door", version: 2 } },
    SEQUENCE_AHEAD: { ...search, minSequence: ahead },
    DEADLINE: () =>
      failedCall(
        wire.address,
        "SearchService/Search",
        { ...search, queries: [{ crop: noiseCrop(1) }] },
        { deadlineMs: 200 },
      ),
  },
  "SearchService/Identify": {
    ...badIdentify,
    FIELD_INVALID: { ...identify, candidates: 101 },
    GALLERY_NOT_FOUND: { ...identify, ...nowhere },
    MODEL_INCOMPATIBLE: { gallery: "outside", crop: noiseCrop(1) },
    SEQUENCE_AHEAD: { ...identify, minSequence: ahead },
    GALLERY_FULL: { ...enrolling, gallery: "one" },
    STORE_FULL: onFull(enrolling),
    OVERLOADED: (call) =>
      whileFull("interactive", () =>
        call({ gallery: "g", crop: noiseCrop(2) }),
      ),
    REQUEST_ID_REUSED: { ...enrolling, requestId: usedId },
    DEADLINE: () =>
      failedCall(
        wire.address,
        "SearchService/Identify",
        { gallery: "g", crop: noiseCrop(1) },
        { deadlineMs: 200 },
      ),
  },
  "GalleryService/CreateGallery": {
    FIELD_INVALID: { gallery: { name: "No Name" } },
    UNSUPPORTED: {
      gallery: { name: "x", modelPolicy: "MODEL_POLICY_FOLLOW_ACTIVE" },
    },
    GALLERY_EXISTS: { gallery: { name: "g" } },
    GALLERY_LIMIT: { gallery: { name: "fourth" } },
    MODEL_NOT_FOUND: { gallery: { name: "x", model: { name: "nobody" } } },
    MODEL_INCOMPATIBLE: { gallery: { name: "x", dimension: 7 } },
    REQUEST_ID_REUSED: { gallery: { name: "x" }, requestId: usedId },
    STORE_FULL: async (call) => {
      await wire.client.GalleryService.DeleteGallery({ gallery: "outside" });
      try {
        return await onFullDisk(() => call({ gallery: { name: "x" } }));
      } finally {
        await wire.client.GalleryService.CreateGallery({
          gallery: { name: "outside", model: external, dimension: 12 },
        });
      }
    },
  },
  "GalleryService/GetGallery": {
    FIELD_INVALID: noName,
    GALLERY_NOT_FOUND: nowhere,
  },
  "GalleryService/ListGalleries": { PAGE_TOKEN_INVALID: badPage },
  "GalleryService/UpdateGallery": {
    FIELD_INVALID: { gallery: { name: "g" } },
    GALLERY_NOT_FOUND: {
      gallery: { name: "nowhere" },
      updateMask: { paths: ["tags"] },
    },
    STORE_FULL: onFull({
      gallery: { name: "g", tags: { hall: "1" } },
      updateMask: { paths: ["tags"] },
    }),
    UNSUPPORTED: {
      gallery: { name: "g", modelPolicy: "MODEL_POLICY_FOLLOW_ACTIVE" },
      updateMask: { paths: ["model_policy"] },
    },
  },
  "GalleryService/DeleteGallery": {
    FIELD_INVALID: noName,
    GALLERY_NOT_FOUND: nowhere,
    STORE_FULL: onFull({ gallery: "g" }),
  },
  "GalleryService/Enroll": {
    FIELD_INVALID: { gallery: "g", enrollments: [item("e")], onExisting: 9 },
    BATCH_TOO_LARGE: { gallery: "g" },
    GALLERY_NOT_FOUND: { ...nowhere, enrollments: [item("e")] },
    REQUEST_ID_REUSED: {
      gallery: "g",
      enrollments: [item("e")],
      requestId: usedId,
    },
    STORE_FULL: onFull({ gallery: "g", enrollments: [item("h")] }),
  },
  "GalleryService/StreamEnroll": {
    FIELD_INVALID: { open: noName },
    GALLERY_NOT_FOUND: { open: nowhere },
    STORE_FULL: () =>
      onFullDisk(
        () =>
          new Promise((resolve) => {
            const stream = wire.client.streamEnroll();
            stream.on("error", resolve);
            stream.on("data", () => undefined);
            stream.write({ open: { gallery: "g" } });
            stream.write({
              enrollment: { correlationId: "1", item: item("h") },
            });
          }),
      ),
  },
  "GalleryService/GetEntry": {
    FIELD_INVALID: { gallery: "g" },
    GALLERY_NOT_FOUND: { ...nowhere, entryId: "e" },
    ENTRY_NOT_FOUND: { gallery: "g", entryId: "none" },
  },
  "GalleryService/ListEntries": {
    FIELD_INVALID: { gallery: "g", view: 9 },
    GALLERY_NOT_FOUND: nowhere,
    PAGE_TOKEN_INVALID: { gallery: "g", ...badPage },
  },
  "GalleryService/UpdateEntries": {
    FIELD_INVALID: { ...update, updateMask: { paths: ["feature"] } },
    GALLERY_NOT_FOUND: { ...update, ...nowhere },
    FILTER_EMPTY: { ...update, selector: { filter: {} } },
    STORE_FULL: onFull(update),
  },
  "GalleryService/DeleteEntries": {
    FIELD_INVALID: { gallery: "g", selector: {} },
    GALLERY_NOT_FOUND: { ...selected, ...nowhere },
    FILTER_EMPTY: { gallery: "g", selector: { filter: {} } },
    STORE_FULL: onFull(selected),
  },
  "GalleryService/ListIdentities": {
    FIELD_INVALID: { gallery: "g", filter: { identified: 9 } },
    GALLERY_NOT_FOUND: nowhere,
    PAGE_TOKEN_INVALID: { gallery: "g", ...badPage },
  },
  "GalleryService/ForgetIdentity": {
    FIELD_INVALID: { identity: "" },
    GALLERY_NOT_FOUND: { identity: "e", ...nowhere },
    STORE_FULL: onFull({ identity: "e" }),
  },
  "OperationService/GetOperation": {
    FIELD_INVALID: {},
    OPERATION_NOT_FOUND: { operationId: "none" },
  },
  "OperationService/ListOperations": {
    FIELD_INVALID: { kind: 9 },
    PAGE_TOKEN_INVALID: badPage,
  },
  "OperationService/WatchOperation": {
    FIELD_INVALID: {},
    OPERATION_NOT_FOUND: { operationId: "none" },
  },
  "OperationService/CancelOperation": {
    FIELD_INVALID: {},
    OPERATION_NOT_FOUND: { operationId: "none" },
  },
};

/** The codes that a .proto file names of each RPC: of the call, and of one item of it. */
async function documented(): Promise<
  ReadonlyMap<RpcName, { readonly call: string[]; readonly item: string[] }>
> {
  const found = new Map<RpcName, { call: string[]; item: string[] }>();
  for (const file of await readdir(join(root, "proto/reid/v1"))) {
    const text = await read(join("proto/reid/v1", file));
    const service = /^service (\w+) \{([\s\S]*?)^\}/m.exec(text);
    for (const [, comment, rpc] of (service?.[2] ?? "").matchAll(
      /((?: *\/\/.*\n)+) *rpc (\w+)\(/g,
    )) {
      const words = comment.replaceAll(/\n *\/\/ /g, " ");
      const codesAfter = (start: string) =>
        new RegExp(`${start}: ([^.]*)\\.`).exec(words)?.[1].split(", ") ?? [];
      found.set(`${service?.[1]}/${rpc}` as RpcName, {
        call: codesAfter("Errors"),
        item: codesAfter("Of one \\w+"),
      });
    }
  }
  return found;
}

/** Asserts that a failed call carries what its code's column says, in one line and 4 KiB. */
function assertCarries(failed: ServiceError, code: string): void {
  const { error, details, pushbackMs } = trailersOf(failed);
  assert.equal(error.code, code, failed.message);
  const { status, details: wanted, facts } = columns[code];
  assert.equal(failed.code, status, code);
  assert.ok(details.length <= 4096);
  const names = [...details.toString("latin1").matchAll(/google\.rpc\.(\w+)/g)];
  assert.deepEqual(
    names.map(([, name]) => name).sort(),
    ["ErrorInfo", ...wanted].sort(),
    code,
  );
  for (const fact of facts)
    assert.ok(Object.hasOwn(error.facts, fact), `${fact} of ${code}`);
  assert.equal(pushbackMs !== undefined, wanted.includes("RetryInfo"), code);
  assert.match(failed.details, /^[^\n]+: [^\n]+$/, code);
}

describe("every code that the .proto files name of a call", () => {
  for (const [name, codes] of Object.entries(meetings))
    for (const [code, meeting] of Object.entries(codes))
      test(`${code} of ${name} comes with its status, details and facts`, async () => {
        const call = (request: object) =>
          failedCall(wire.address, name as RpcName, request);
        const failed = await (typeof meeting === "function"
          ? meeting(call)
          : call(meeting));
        assertCarries(failed, code);
      });

  test("is met here, or in the test that is named for it", async () => {
    for (const [name, { call }] of await documented()) {
      if (!tested.includes(name.split("/")[0])) continue;
      assert.ok(call.length > 0, name);
      for (const code of call) {
        if (ofCallers.includes(code)) continue;
        const file = elsewhere[code];
        if (file === undefined)
          assert.ok(
            Object.hasOwn(meetings[name] ?? {}, code),
            `${code} of ${name} is met by no test`,
          );
        else {
          const text = await read(join("test/serve", file));
          assert.ok(text.includes(`"${code}"`), `${code} in ${file}`);
        }
      }
    }
  });

  test("is all that a call here was seen to fail with", async () => {
    const named = await documented();
    for (const [name, codes] of Object.entries(meetings))
      for (const code of Object.keys(codes))
        assert.ok(
          named.get(name as RpcName)?.call.includes(code),
          `the comment of ${name} does not name ${code}`,
        );
  });
});

/** A failure of one item, as the wire has it. */
interface ItemFailure {
  readonly reason: string;
  readonly code: number;
  readonly message: string;
  readonly field: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfter: object | null;
}

type Failed = ItemFailure | null | undefined;

/** Items that fail, by the code that they fail with. */
const badItems: Readonly<Record<string, object>> = {
  ...Object.fromEntries(badInputs.map(({ reason, input }) => [reason, input])),
};

async function searched(queries: readonly object[], gallery = "g") {
  const { results } = await wire.client.SearchService.Search({
    gallery,
    k: 1,
    queries: [...queries],
  });
  return results.map(({ error }): Failed => error);
}

async function enrolled(items: readonly object[], more: object = {}) {
  const { results } = await wire.client.GalleryService.Enroll({
    gallery: "g",
    enrollments: [...items],
    ...more,
  });
  return results.map(({ error }): Failed => error);
}

async function streamed(items: readonly object[], open: object = {}) {
  const stream = wire.client.streamEnroll();
  const failures = new Map<string, Failed>();
  const done = new Promise((resolve, reject) =>
    stream.on("end", resolve).on("error", reject),
  );
  stream.on(
    "data",
    (answer: {
      readonly commit?: {
        readonly results: readonly {
          readonly correlationId: string;
          readonly result: { readonly error: Failed } | null;
        }[];
      } | null;
    }) => {
      for (const { correlationId, result } of answer.commit?.results ?? [])
        failures.set(correlationId, result?.error);
    },
  );
  stream.write({ open: { gallery: "g", ...open } });
  items.forEach((one, i) =>
    stream.write({ enrollment: { correlationId: String(i + 1), item: one } }),
  );
  stream.end();
  await done;
  return items.map((_, i) => failures.get(String(i + 1)));
}

/** What takes items, and how each code of one item is met there beside the bad crops and features. */
const batches: readonly {
  readonly name: RpcName;
  readonly failuresOf: (items: readonly object[]) => Promise<readonly Failed[]>;
  readonly more: Readonly<Record<string, () => Promise<readonly Failed[]>>>;
}[] = [
  {
    name: "SearchService/Search",
    failuresOf: searched,
    more: {
      ENTRY_NOT_FOUND: () => searched([{ entryId: "none" }]),
      MODEL_INCOMPATIBLE: () => searched([{ crop: noiseCrop(1) }], "outside"),
      OVERLOADED: () =>
        whileFull("interactive", () =>
          searched([{ crop: noiseCrop(1) }, { feature: unitFeature(1) }]),
        ),
    },
  },
  {
    name: "GalleryService/Enroll",
    failuresOf: enrolled,
    more: {
      ENTRY_EXISTS: () =>
        enrolled([item("e")], { onExisting: "ON_EXISTING_FAIL" }),
      MODEL_INCOMPATIBLE: () =>
        enrolled([{ crop: noiseCrop(1) }], { gallery: "outside" }),
      GALLERY_FULL: () => enrolled([item("f")], { gallery: "one" }),
      OVERLOADED: () =>
        whileFull("interactive", () =>
          enrolled([{ crop: noiseCrop(1) }, item("e")]),
        ),
    },
  },
  {
    name: "GalleryService/StreamEnroll",
    failuresOf: streamed,
    more: {
      ENTRY_EXISTS: () =>
        streamed([item("e")], { onExisting: "ON_EXISTING_FAIL" }),
      MODEL_INCOMPATIBLE: () =>
        streamed([{ crop: noiseCrop(1) }], { gallery: "outside" }),
      GALLERY_FULL: () => streamed([item("f")], { gallery: "one" }),
      // Beyond its window: while its queue is full a stream is not read.
      OVERLOADED: async () =>
        (
          await streamed([{ crop: noiseCrop(1) }, item("f")], { window: 1 })
        ).slice(1),
    },
  },
];

/** Asserts that an item's failure says as fields what a failed call says in its details. */
function assertFails(failure: Failed, code: string): void {
  assert.equal(failure?.reason, code, failure?.message);
  const { status, details, facts } = columns[code];
  assert.equal(failure.code, status, code);
  assert.match(
    failure.field,
    /^(queries\[\d+\]|enrollments\[\d+\]|enrollment)/,
  );
  for (const fact of facts)
    assert.ok(Object.hasOwn(failure.metadata, fact), `${fact} of ${code}`);
  const isRetried = details.includes("RetryInfo");
  assert.equal((failure.retryAfter ?? null) !== null, isRetried, code);
  assert.match(failure.message, /^[^\n]+: [^\n]+$/, code);
}

describe("every code that the .proto files name of one item", () => {
  for (const { name, failuresOf, more } of batches) {
    for (const [code, input] of Object.entries(badItems))
      test(`${code} of an item of ${name} comes with its status, field and facts`, async () => {
        assertFails((await failuresOf([input]))[0], code);
      });

    for (const [code, meet] of Object.entries(more))
      test(`${code} of an item of ${name} comes with its status, field and facts`, async () => {
        assertFails((await meet())[0], code);
      });

    test(`of ${name} is met here`, async () => {
      const named = (await documented()).get(name)?.item ?? [];
      assert.ok(named.length > 0);
      for (const code of named)
        assert.ok(
          Object.hasOwn(badItems, code) || Object.hasOwn(more, code),
          `${code} of an item of ${name} is met by no test`,
        );
    });
  }
});

describe("every code of docs/errors.md that a call or an item can fail with", () => {
  test("is met by a test over the wire", async () => {
    const page = await read("docs/errors.md");
    const named = new Set(
      page
        .split(/^## /m)
        .filter((section) => /^(The API|Crops)\n/.test(section))
        .flatMap((section) => [...section.matchAll(/^### (\w+)$/gm)])
        .map(([, code]) => code),
    );
    for (const [name, { call, item: own }] of await documented())
      if (rpcs[name].unsupported === undefined)
        for (const code of [...call, ...own]) named.add(code);
    assert.ok(named.size > 40, `${named.size} codes`);

    const met = new Set(
      [
        ...Object.values(meetings).map(Object.keys),
        ...batches.map(({ more }) => Object.keys(more)),
        Object.keys(badItems),
      ].flat(),
    );
    for (const file of await readdir(join(root, "test/serve")))
      if (file.endsWith(".wire.test.ts") && !file.startsWith("codes."))
        for (const [, code] of (await read(join("test/serve", file))).matchAll(
          /"([A-Z]+(?:_[A-Z]+)*)"/g,
        ))
          met.add(code);
    const unmet = [...named].filter(
      (code) => !met.has(code) && !ofCallers.includes(code),
    );
    assert.deepEqual(unmet, []);
  });
});
