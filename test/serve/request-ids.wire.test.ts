import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Client } from "#cli/client";
import { rpcNames, rpcs, type RpcName } from "#serve/rpcs";
import { packageDefinition } from "#serve/services/definitions";
import { inFolder, SteppedClock } from "../support/galleries.js";
import { finished } from "../support/operations.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

type Answer = Promise<object>;

/** A call that is not idempotent by itself: one request, and another of the same kind. */
interface Repeatable {
  readonly request: object;
  readonly other: object;
  call(client: Client, request: object): Answer;
}

const feature = (seed: number) => ({ feature: unitFeature(seed) });

/** Every RPC that takes a request id, with what it is called for. */
const repeatable: Partial<Record<RpcName, Repeatable>> = {
  "GalleryService/CreateGallery": {
    request: { gallery: { name: "made" } },
    other: { gallery: { name: "unmade" } },
    call: ({ GalleryService }, request) =>
      GalleryService.CreateGallery(request),
  },
  "GalleryService/Enroll": {
    request: { gallery: "g", enrollments: [feature(1), feature(2)] },
    other: { gallery: "g", enrollments: [feature(1)] },
    call: ({ GalleryService }, request) => GalleryService.Enroll(request),
  },
  "SearchService/Identify": {
    request: { gallery: "g", ...feature(9), enroll: "ENROLL_POLICY_NEW" },
    other: { gallery: "g", ...feature(8), enroll: "ENROLL_POLICY_NEW" },
    call: ({ SearchService }, request) => SearchService.Identify(request),
  },
  "MemoryService/Recluster": {
    request: {},
    other: { eps: 0.5 },
    call: ({ MemoryService }, request) => MemoryService.Recluster(request),
  },
  "AdminService/CreateSnapshot": {
    request: { gallery: "g" },
    other: { gallery: "made" },
    call: ({ AdminService }, request) => AdminService.CreateSnapshot(request),
  },
  "AdminService/CreateBackup": {
    request: { galleries: ["g"] },
    other: {},
    call: ({ AdminService }, request) => AdminService.CreateBackup(request),
  },
  "AdminService/RestoreBackup": {
    request: { galleries: { g: "again" } },
    other: { galleries: { g: "another" } },
    call: async ({ AdminService }, request) => {
      const { backups } = await AdminService.ListBackups({});
      const [{ backupId }] = backups;
      return AdminService.RestoreBackup({ backupId, ...request });
    },
  },
};

/** Whether an RPC's request has field 15, the request id. */
function takesId(name: RpcName): boolean {
  const [service, rpc] = name.split("/");
  const { requestType } = (
    packageDefinition[`reid.v1.${service}`] as Readonly<
      Record<
        string,
        {
          readonly requestType: {
            readonly type: {
              readonly field: readonly {
                readonly name: string;
                readonly number: number;
              }[];
            };
          };
        }
      >
    >
  )[rpc];
  return requestType.type.field.some(({ number }) => number === 15);
}

const isStarted = (
  answer: object,
): answer is { readonly operation: { readonly operationId: string } } =>
  "operation" in answer;

describe("a request id", () => {
  test("is taken by every RPC whose request has field 15", () => {
    assert.deepEqual(
      rpcNames
        .filter((name) => rpcs[name].unsupported === undefined && takesId(name))
        .sort(),
      Object.keys(repeatable).sort(),
    );
  });

  test("gives the first response again, also after a restart, and is refused for other bytes and as no UUID", () =>
    inFolder(async (folder) => {
      const settings = {
        serve: { online: true, data: join(folder, "data") },
        backup: { dir: join(folder, "backups") },
      };
      const first = new Map<string, { requestId: string; answer: object }>();
      let wire = await startWireServer(settings);
      try {
        const { client } = wire;
        await client.GalleryService.CreateGallery({ gallery: { name: "g" } });
        await client.EmbedService.Embed({
          crops: Array.from({ length: 8 }, (_, seed) => noiseCrop(seed)),
        });
        for (const [name, { call, request, other }] of Object.entries(
          repeatable,
        )) {
          const requestId = randomUUID();
          const answer = await call(client, { ...request, requestId });
          first.set(name, { requestId, answer });
          if (isStarted(answer))
            await finished(client, Promise.resolve(answer));
          for (const id of [requestId, requestId.toUpperCase()])
            assert.deepEqual(
              await call(client, { ...request, requestId: id }),
              answer,
              name,
            );
          const reused = call(client, { ...other, requestId });
          const { facts } = await refused(reused, "REQUEST_ID_REUSED");
          assert.equal(facts["requestId"], requestId);
          const bad = call(client, { ...request, requestId: `${requestId}0` });
          const wrong = await refused(bad, "FIELD_INVALID");
          assert.equal(wrong.facts["field"], "request_id", name);
        }
      } finally {
        await wire.close();
      }
      wire = await startWireServer(settings);
      try {
        for (const [name, { call, request, other }] of Object.entries(
          repeatable,
        )) {
          const { requestId, answer } = first.get(name) ?? { requestId: "" };
          assert.deepEqual(
            await call(wire.client, { ...request, requestId }),
            answer,
            name,
          );
          await refused(
            call(wire.client, { ...other, requestId }),
            "REQUEST_ID_REUSED",
          );
        }
        const { gallery } = await wire.client.GalleryService.GetGallery({
          gallery: "g",
        });
        // Two enrolments and one newcomer, each made once.
        assert.equal(gallery?.entryCount, "3");
      } finally {
        await wire.close();
      }
    }));
});

describe("an enrolment", () => {
  let wire: WireServer;
  const clock = new SteppedClock();
  before(async () => {
    wire = await startWireServer({}, { clock });
    await wire.client.GalleryService.CreateGallery({ gallery: { name: "g" } });
  });
  after(() => wire.close());

  const enroll = (seed: number, more: object = {}) =>
    wire.client.GalleryService.Enroll({
      gallery: "g",
      enrollments: [feature(seed)],
      ...more,
    });
  const count = async () =>
    (await wire.client.GalleryService.GetGallery({ gallery: "g" })).gallery
      ?.entryCount;

  test("without an id is made as often as it arrives", async () => {
    await enroll(1);
    await enroll(1);
    assert.equal(await count(), "2");
  });

  test("that comes many times at once under one id is made once", async () => {
    const requestId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => enroll(2, { requestId })),
    );
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    assert.equal(await count(), "3");
  });

  test("that failed as a call leaves its id free", async () => {
    const requestId = randomUUID();
    await refused(
      enroll(3, { gallery: "nowhere", requestId }),
      "GALLERY_NOT_FOUND",
    );
    assert.equal((await enroll(3, { requestId })).results[0].sequence, "4");
  });

  test("may use the id of one that is 24 hours old", async () => {
    const requestId = randomUUID();
    await enroll(4, { requestId });
    clock.timeMs += 24 * 3_600_000 - 1;
    await refused(enroll(5, { requestId }), "REQUEST_ID_REUSED");
    clock.timeMs += 1;
    assert.equal((await enroll(5, { requestId })).results[0].sequence, "6");
  });
});
