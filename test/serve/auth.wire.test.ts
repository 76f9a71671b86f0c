import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, mock, test } from "node:test";
import {
  Client as GrpcClient,
  credentials,
  Metadata,
  type ServiceDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import { connect, errorFromCall, type Client } from "#cli/client";
import { parseConfig } from "#core/config";
import { silentLog } from "#core/log";
import { Access } from "#serve/auth";
import { rpcNames, rpcs, type Role, type RpcName } from "#serve/rpcs";
import { packageDefinition } from "#serve/services/definitions";
import { startServer } from "#serve/server";
import { inFolder } from "../support/galleries.js";
import { watchHealth } from "../support/health-client.js";
import { metric, untilMetric } from "../support/metrics.js";
import { finished } from "../support/operations.js";
import { endedCall, failedCall, trailersOf } from "../support/raw-call.js";
import { bearer, principal, tokenOf } from "../support/tokens.js";
import {
  noiseCrop,
  refused,
  startWireServer,
  unitFeature,
  type WireServer,
} from "../support/wire-server.js";

const roles: readonly Role[] = ["reader", "writer", "admin"];
const denials = ["UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED"];
const onDoors = { galleries: ["door-*"] };

const principals = [
  ...roles.map((role) => principal(role, role)),
  ...roles.map((role) => principal(`door-${role}`, role, onDoors)),
  principal("expired", "admin", { expires_at: "2020-01-01T00:00:00Z" }),
  principal("slow-role", "reader", { calls_per_second: 0.001 }),
  principal("slow-fields", "reader", { calls_per_second: 0.001 }),
  principal("slow-stream", "reader", { calls_per_second: 0.001 }),
];

let wire: WireServer;
const clients: Client[] = [];
/** A client of the server under a principal's token. */
const as = (name: string, address = wire.address): Client => {
  const client = connect(address, { token: tokenOf(name) });
  clients.push(client);
  return client;
};
const flat = (name: string) => ({ gallery: { name, index: { flat: {} } } });
const enrollment = (entryId: string) => ({
  feature: unitFeature(1),
  entry: { entryId },
});

before(async () => {
  wire = await startWireServer({ auth: { principals } });
  const { GalleryService } = as("admin");
  for (const name of ["door-1", "lab"]) {
    await GalleryService.CreateGallery(flat(name));
    const enrollments = [enrollment("e")];
    await GalleryService.Enroll({ gallery: name, enrollments });
  }
});
after(async () => {
  for (const client of clients) client.close();
  await wire.close();
});

/** How a call under a token ends. */
async function reasonOf(
  token: string,
  name: RpcName,
  request: object = {},
): Promise<string | undefined> {
  const failure = await endedCall(wire.address, name, request, {
    authorization: [bearer(token)],
  });
  return failure === undefined ? undefined : errorFromCall(failure).code;
}

describe("the role of an RPC", () => {
  for (const name of rpcNames)
    test(`lets ${rpcs[name].role}s and above call ${name}, and nobody below`, async () => {
      const least = roles.indexOf(rpcs[name].role);
      for (const [i, role] of roles.entries()) {
        const failure = await endedCall(wire.address, name, undefined, {
          authorization: [bearer(role)],
        });
        const error = failure && errorFromCall(failure);
        if (i >= least) {
          assert.ok(!denials.includes(error?.code ?? ""), `${role}: ${error}`);
          continue;
        }
        assert.equal(failure?.code, 7, role);
        assert.equal(error?.code, "PERMISSION_DENIED");
        const facts = { required: rpcs[name].role, actual: role };
        assert.deepEqual({ ...error?.facts }, facts);
      }
    });

  test("is told by GetServerInfo", async () => {
    for (const role of roles) {
      const info = await as(role).AdminService.GetServerInfo({});
      assert.equal(info.role, role);
    }
  });
});

describe("a call that brings no token in force", () => {
  const tried: Readonly<Record<string, readonly string[]>> = {
    none: [],
    unknown: [bearer("nobody")],
    expired: [bearer("expired")],
    malformed: [`Bearer ${tokenOf("admin")} x`],
    "of another scheme": [`Basic ${tokenOf("admin")}`],
  };

  test("is UNAUTHENTICATED for every RPC, whatever the request, and never told why", async () => {
    const told = new Set<string>();
    for (const name of rpcNames)
      for (const authorization of Object.values(tried)) {
        const failed = await failedCall(
          wire.address,
          name,
          {},
          {
            authorization,
          },
        );
        assert.equal(failed.code, 16, name);
        const { error, details, pushbackMs } = trailersOf(failed);
        assert.equal(error.code, "UNAUTHENTICATED");
        assert.equal(pushbackMs, undefined);
        told.add(`${failed.details} ${details.toString("hex")}`);
      }
    assert.equal(told.size, 1);
  });

  test("opens no stream either", async () => {
    const client = connect(wire.address);
    for (const stream of [
      client.streamEmbed(),
      client.streamEnroll(),
      client.watchOperation("o"),
    ]) {
      const failed = await new Promise<ServiceError>((resolve) =>
        stream.on("error", resolve).on("data", () => undefined),
      );
      assert.equal(errorFromCall(failed).code, "UNAUTHENTICATED");
    }
    client.close();
  });
});

describe("a caller who is known", () => {
  test("is looked up once a call, of every RPC", async () => {
    const lookUp = mock.method(Access.prototype, "authenticate");
    try {
      for (const [i, name] of rpcNames.entries()) {
        await reasonOf("admin", name);
        assert.equal(lookUp.mock.callCount(), i + 1, name);
      }
    } finally {
      lookUp.mock.restore();
    }
  });
});

/** A message's description, as far as it is needed here. */
interface Described {
  readonly field: readonly {
    readonly name: string;
    readonly label: string;
    readonly typeName: string;
  }[];
}

/** The request of an RPC with a gallery's name wherever it takes one; undefined: it takes none. */
function naming(name: RpcName, gallery: string): object | undefined {
  const [service, rpc] = name.split("/");
  const methods = packageDefinition[`reid.v1.${service}`] as ServiceDefinition;
  const { requestType } = methods[rpc] as unknown as {
    readonly requestType: { readonly type: Described };
  };
  return namingIn(requestType.type, gallery);
}

function namingIn(type: Described, gallery: string): object | undefined {
  for (const field of type.field) {
    const { name, label, typeName } = field;
    const isRepeated = label === "LABEL_REPEATED";
    if (name === "galleries")
      // A map from names in a backup to names here, or a list.
      return {
        galleries: typeName === "" ? [gallery] : { [gallery]: "door-1" },
      };
    if (name === "gallery" && !isRepeated)
      return { gallery: typeName === "" ? gallery : { name: gallery } };
    if (name === "open") {
      const open = packageDefinition[`reid.v1.${typeName}`] as unknown as {
        readonly type: Described;
      };
      const inner = namingIn(open.type, gallery);
      return inner === undefined ? undefined : { open: inner };
    }
  }
  return undefined;
}

describe("a gallery that the caller may not see", () => {
  const named = rpcNames.filter((name) => naming(name, "x") !== undefined);

  test("is asked after by these RPCs, and no other", () => {
    assert.deepEqual(
      named.map((name) => name.split("/")[1]),
      [
        ...["Search", "Identify", "CreateGallery", "GetGallery"],
        ...["UpdateGallery", "DeleteGallery", "Enroll", "StreamEnroll"],
        ...["GetEntry", "ListEntries", "UpdateEntries", "DeleteEntries"],
        ...["ListIdentities", "ForgetIdentity", "StartMigration"],
        ...["CreateSnapshot", "CreateBackup", "RestoreBackup"],
      ],
    );
  });

  for (const name of named)
    test(`is denied by ${name}, though it is there or is not, and one that it may see is not`, async () => {
      for (const gallery of ["lab", "nowhere"]) {
        const failed = await failedCall(
          wire.address,
          name,
          naming(name, gallery),
          { authorization: [bearer("door-admin")] },
        );
        assert.equal(failed.code, 7);
        const { error } = trailersOf(failed);
        assert.deepEqual(
          { ...error.facts },
          { required: `gallery/${gallery}`, actual: "gallery/door-*" },
        );
      }
      // No gallery is called so, and none is deleted by this.
      const reason = await reasonOf("door-admin", name, naming(name, "door-x"));
      assert.ok(!denials.includes(reason ?? ""), reason);
    });

  test("is denied where the target of a restore is one", async () => {
    const request = { backupId: "b", galleries: { "door-1": "lab" } };
    const reason = await reasonOf(
      "door-admin",
      "AdminService/RestoreBackup",
      request,
    );
    assert.equal(reason, "PERMISSION_DENIED");
  });

  for (const name of [
    "GalleryService/ForgetIdentity",
    "AdminService/CreateBackup",
    "AdminService/RestoreBackup",
  ] as const)
    test(`denies ${name} of every gallery`, async () => {
      const request = { identity: "1", backupId: "b" };
      const failed = await failedCall(wire.address, name, request, {
        authorization: [bearer("door-admin")],
      });
      const { error } = trailersOf(failed);
      assert.equal(error.code, "PERMISSION_DENIED");
      assert.equal(error.facts["required"], "gallery/*");
      const reason = await reasonOf("admin", name, request);
      assert.notEqual(reason, "PERMISSION_DENIED");
    });

  test("is in no list: of galleries, of a model's, of operations", async () => {
    for (const [name, seen] of [
      ["door-admin", ["door-1"]],
      ["admin", ["door-1", "lab"]],
    ] as readonly (readonly [string, readonly string[]])[]) {
      const client = as(name);
      const { galleries } = await client.GalleryService.ListGalleries({});
      const names = galleries.map((one) => one.name);
      assert.deepEqual(
        names.filter((one) => ["door-1", "lab"].includes(one)),
        seen,
      );
      const { models } = await client.ModelService.ListModels({});
      const { info } = await client.ModelService.GetModel({ model: null });
      for (const model of [models[0], info])
        assert.equal(model?.galleries.includes("lab"), seen.includes("lab"));
    }
  });

  test("has no operations that the caller could find, watch or cancel", async () => {
    const admin = as("admin");
    const { operation } = await admin.AdminService.CreateSnapshot({
      gallery: "lab",
    });
    const operationId = operation?.operationId ?? "";
    const { OperationService } = as("door-admin");
    await finished(admin, Promise.resolve({ operation }));
    const { operations } = await OperationService.ListOperations({});
    assert.ok(!operations.some((one) => one.operationId === operationId));
    for (const rpc of ["Get", "Watch", "Cancel"] as const)
      assert.equal(
        await reasonOf("door-admin", `OperationService/${rpc}Operation`, {
          operationId,
        }),
        "OPERATION_NOT_FOUND",
      );
    await OperationService.ListOperations({});
    const seen = await admin.OperationService.GetOperation({ operationId });
    assert.equal(seen.operation?.subject, "gallery/lab");
  });

  test("keeps backups that hold it from the caller", () =>
    inFolder(async (folder) => {
      const own = await startWireServer({
        auth: { principals },
        backup: { dir: folder },
      });
      try {
        const admin = as("admin", own.address);
        const doors = as("door-admin", own.address);
        for (const name of ["door-1", "lab"])
          await admin.GalleryService.CreateGallery(flat(name));
        const made = async (client: Client, galleries: readonly string[]) => {
          const start = client.AdminService.CreateBackup({
            galleries: [...galleries],
          });
          return (await finished(client, start)).backup?.backupId ?? "";
        };
        const both = await made(admin, ["door-1", "lab"]);
        const one = await made(doors, ["door-1"]);
        const listed = async (client: Client) =>
          (await client.AdminService.ListBackups({})).backups.map(
            ({ backupId }) => backupId,
          );
        assert.deepEqual(await listed(doors), [one]);
        assert.deepEqual(await listed(admin), [one, both]);
        const remove = (backupId: string) =>
          doors.AdminService.DeleteBackup({ backupId });
        await refused(remove(both), "BACKUP_NOT_FOUND");
        await remove(one);
        assert.deepEqual(await listed(admin), [both]);
      } finally {
        await own.close();
      }
    }));
});

describe("a field that only a writer may set so", () => {
  const crop = noiseCrop(1);
  const query = { feature: unitFeature(1) };
  const search = { gallery: "door-1", k: 1, queries: [query] };
  const identify = { gallery: "door-1", ...query };
  const entry = { gallery: "door-1", entryId: "e" };
  const cases: readonly (readonly [RpcName, object, object])[] = [
    ["EmbedService/Embed", { crops: [crop] }, { observe: "OBSERVE_YES" }],
    ["SearchService/Search", search, { view: "ENTRY_VIEW_FEATURE" }],
    ["SearchService/Search", search, { view: "ENTRY_VIEW_CROP" }],
    ["SearchService/Identify", identify, { enroll: "ENROLL_POLICY_NEW" }],
    [
      "SearchService/Identify",
      identify,
      { enroll: "ENROLL_POLICY_NEW_AND_KNOWN" },
    ],
    ["GalleryService/GetEntry", entry, { view: "ENTRY_VIEW_FEATURE" }],
    ["GalleryService/GetEntry", entry, { view: "ENTRY_VIEW_CROP" }],
    [
      "GalleryService/ListEntries",
      { gallery: "door-1" },
      { view: "ENTRY_VIEW_CROP" },
    ],
  ];
  for (const [name, request, field] of cases)
    test(`is ${JSON.stringify(field)} of ${name}`, async () => {
      assert.equal(await reasonOf("reader", name, request), undefined);
      const asked = { ...request, ...field };
      const failed = await failedCall(wire.address, name, asked, {
        authorization: [bearer("reader")],
      });
      const { error } = trailersOf(failed);
      assert.equal(error.code, "PERMISSION_DENIED");
      const facts = { required: "writer", actual: "reader" };
      assert.deepEqual({ ...error.facts }, facts);
      assert.equal(await reasonOf("writer", name, asked), undefined);
    });

  test("is observe YES of StreamEmbed", async () => {
    const request = { open: { observe: "OBSERVE_YES" } };
    const name = "EmbedService/StreamEmbed";
    assert.equal(await reasonOf("reader", name, request), "PERMISSION_DENIED");
    assert.equal(await reasonOf("writer", name, request), undefined);
    assert.equal(await reasonOf("reader", name, { open: {} }), undefined);
  });

  test("is none of the views where readers see features", async () => {
    const own = await startWireServer({
      auth: { principals, readers_see_features: true },
    });
    try {
      const { GalleryService } = as("admin", own.address);
      await GalleryService.CreateGallery(flat("door-1"));
      await GalleryService.Enroll({
        gallery: "door-1",
        enrollments: [enrollment("e")],
      });
      const seen = await as("reader", own.address).GalleryService.GetEntry({
        ...entry,
        view: "ENTRY_VIEW_FEATURE",
      });
      assert.equal(seen.entry?.feature?.f32le.length, 48);
    } finally {
      await own.close();
    }
  });
});

describe("what online mode learns from", () => {
  test("is never a reader's crop, whether it says nothing or NO, on a call or a stream", async () => {
    const own = await startWireServer({
      auth: { principals },
      serve: { online: true },
    });
    try {
      const rows = async () => {
        await own.server.settleMemory();
        const { memory } = await as(
          "reader",
          own.address,
        ).MemoryService.GetMemory({});
        return memory?.rowCount;
      };
      const crops = [noiseCrop(1), noiseCrop(2)];
      const reader = as("reader", own.address);
      for (const observe of ["OBSERVE_UNSPECIFIED", "OBSERVE_NO"] as const)
        await reader.EmbedService.Embed({ crops, observe });
      await streamed(reader, 3);
      assert.equal(await rows(), 0);
      const writer = as("writer", own.address);
      await writer.EmbedService.Embed({ crops });
      await streamed(writer, 3);
      assert.equal(await rows(), 3);
    } finally {
      await own.close();
    }
  });

  /** Sends one crop over a stream, and waits for its answer and the stream's end. */
  const streamed = (client: Client, seed: number) =>
    new Promise<void>((resolve, reject) => {
      const stream = client.streamEmbed();
      stream
        .on("error", reject)
        .on("end", resolve)
        .on("data", () => undefined);
      stream.write({ open: {} });
      stream.write({ crop: { correlationId: "1", crop: noiseCrop(seed) } });
      stream.end();
    });
});

describe("a stream that names its gallery in its first message", () => {
  test("is denied another gallery than the caller's, and enrols into its own", async () => {
    const ended = (gallery: string) =>
      new Promise<string>((resolve) => {
        const stream = as("door-writer").streamEnroll();
        stream
          .on("error", (failed: ServiceError) =>
            resolve(errorFromCall(failed).code),
          )
          .on("data", () => stream.end())
          .on("end", () => resolve("OK"));
        stream.write({ open: { gallery } });
      });
    assert.equal(await ended("lab"), "PERMISSION_DENIED");
    assert.equal(await ended("door-1"), "OK");
  });
});

describe("a rate", () => {
  test("is counted after the role: what is denied for that costs no call", async () => {
    const call = (name: RpcName) => reasonOf("slow-role", name);
    assert.equal(
      await call("GalleryService/CreateGallery"),
      "PERMISSION_DENIED",
    );
    assert.equal(await call("AdminService/GetServerInfo"), undefined);
    assert.equal(
      await call("GalleryService/CreateGallery"),
      "PERMISSION_DENIED",
    );
    assert.equal(await call("AdminService/GetServerInfo"), "RATE_LIMITED");
  });

  test("is counted before the request is looked at, and says when to come again", async () => {
    const call = () =>
      failedCall(
        wire.address,
        "SearchService/Search",
        {},
        {
          authorization: [bearer("slow-fields")],
        },
      );
    assert.equal(trailersOf(await call()).error.code, "BATCH_TOO_LARGE");
    const failed = await call();
    assert.equal(failed.code, 8);
    const { error, details, pushbackMs } = trailersOf(failed);
    assert.equal(error.code, "RATE_LIMITED");
    assert.equal(error.facts["limitPerSecond"], "0.001");
    const waitMs = Number(error.facts["retryAfterMs"]);
    assert.ok(waitMs > 900_000 && waitMs <= 1_000_000, String(waitMs));
    assert.equal(pushbackMs, String(waitMs));
    for (const part of ["google.rpc.RetryInfo", "google.rpc.QuotaFailure"])
      assert.ok(details.includes(part), part);
  });

  test("counts a stream as one call", async () => {
    const stream = as("slow-stream").streamEmbed();
    const answers = await new Promise<number>((resolve, reject) => {
      let count = 0;
      stream
        .on("data", () => (count += 1))
        .on("error", reject)
        .on("end", () => resolve(count));
      stream.write({ open: {} });
      for (const correlationId of ["1", "2", "3"])
        stream.write({ crop: { correlationId, crop: noiseCrop(1) } });
      stream.end();
    });
    assert.equal(answers, 4);
    const reason = await reasonOf("slow-stream", "EmbedService/StreamEmbed");
    assert.equal(reason, "RATE_LIMITED");
  });
});

describe("the order of checks", () => {
  test("is authentication, role, gallery, envelope, existence", async () => {
    const name = "GalleryService/UpdateEntries";
    const call = async (token: string, request: object) => {
      const failed = await failedCall(wire.address, name, request, {
        authorization: [bearer(token)],
      });
      return trailersOf(failed).error;
    };
    const bad = { gallery: "lab", selector: {} };
    assert.equal((await call("nobody", bad)).code, "UNAUTHENTICATED");
    const role = await call("door-reader", bad);
    assert.equal(role.facts["required"], "writer");
    const gallery = await call("door-writer", bad);
    assert.equal(gallery.facts["required"], "gallery/lab");
    const nowhere = { gallery: "door-none", selector: {} };
    assert.equal((await call("door-writer", nowhere)).code, "FIELD_INVALID");
    const fitting = {
      gallery: "door-none",
      selector: { identity: "1" },
      updateMask: { paths: ["camera_id"] },
      entry: { cameraId: "2" },
    };
    assert.equal(
      (await call("door-writer", fitting)).code,
      "GALLERY_NOT_FOUND",
    );
  });
});

describe("beside the seven services", () => {
  test("health needs no token", async () => {
    const watch = watchHealth(wire.address, "liveness");
    await watch.until("SERVING");
    watch.close();
  });

  for (const version of ["v1", "v1alpha"])
    test(`reflection ${version} needs one`, async () => {
      const reflect = async (authorization: string | undefined) => {
        const client = new GrpcClient(
          wire.address,
          credentials.createInsecure(),
        );
        const metadata = new Metadata();
        if (authorization !== undefined)
          metadata.set("authorization", authorization);
        const call = client.makeBidiStreamRequest(
          `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
          (bytes: Buffer) => bytes,
          (bytes: Buffer) => bytes,
          metadata,
        );
        // list_services, field 7, with any text.
        call.write(Buffer.from([0x3a, 1, 0x2a]));
        try {
          return await new Promise<Buffer | ServiceError>((resolve) =>
            call.on("data", resolve).on("error", resolve),
          );
        } finally {
          call.cancel();
          client.close();
        }
      };
      const answer = await reflect(bearer("reader"));
      assert.ok(Buffer.isBuffer(answer) && answer.includes("EmbedService"));
      for (const authorization of [undefined, bearer("expired")]) {
        const failed = await reflect(authorization);
        assert.ok(failed instanceof Error, "it was answered");
        assert.equal(errorFromCall(failed).code, "UNAUTHENTICATED");
      }
    });
});

describe("a request that cannot be read", () => {
  const send = (bytes: Buffer, authorization?: string) => {
    const client = new GrpcClient(wire.address, credentials.createInsecure());
    const metadata = new Metadata();
    if (authorization !== undefined)
      metadata.set("authorization", authorization);
    return new Promise<number>((resolve) =>
      client.makeUnaryRequest(
        "/reid.v1.SearchService/Search",
        (sent: Buffer) => sent,
        (received: Buffer) => received,
        bytes,
        metadata,
        (error) => resolve(error?.code ?? 0),
      ),
    ).finally(() => client.close());
  };
  // A wire type that there is not; and one byte more than a message may have.
  const broken = Buffer.from([0x0f]);
  const large = Buffer.alloc(16 * 1024 * 1024 + 1);

  test("is not read of somebody who is not known: UNAUTHENTICATED, broken or too large", async () => {
    assert.deepEqual([await send(broken), await send(large)], [16, 16]);
    const known = bearer("reader");
    assert.deepEqual(
      [await send(broken, known), await send(large, known)],
      [13, 8],
    );
  });
});

describe("the log", () => {
  test("says whose call it was that had an identity forgotten, and no token", async () => {
    const logged: unknown[] = [];
    const log = {
      ...silentLog,
      info: (...line: readonly unknown[]) => logged.push(line),
      debug: (...line: readonly unknown[]) => logged.push(line),
    };
    const own = await startWireServer(
      { auth: { principals } },
      { log: { ...log, child: () => log as typeof silentLog } },
    );
    try {
      const { GalleryService } = as("admin", own.address);
      await GalleryService.CreateGallery(flat("door-1"));
      await GalleryService.ForgetIdentity({ identity: "42" });
      const denied = as("door-reader", own.address).GalleryService;
      await refused(
        denied.DeleteGallery({ gallery: "door-1" }),
        "PERMISSION_DENIED",
      );
      const text = JSON.stringify(logged);
      assert.match(text, /"identity forgotten",\{[^}]*"principal":"admin"/);
      assert.match(text, /"call denied",\{[^}]*"principal":"door-reader"/);
      assert.ok(!text.includes(tokenOf("admin")));
    } finally {
      await own.close();
    }
  });
});

describe("reid.denied", () => {
  test("counts the calls that are denied, by reason", async () => {
    const own = await startWireServer({
      auth: {
        principals: [principal("a", "reader", { calls_per_second: 0.001 })],
      },
    });
    try {
      const series = (reason: string) =>
        `reid_denied_total{reason="${reason}"}`;
      const call = (token: string, name: RpcName) =>
        endedCall(own.address, name, {}, { authorization: [bearer(token)] });
      for (const token of ["b", "c"])
        await call(token, "AdminService/GetServerInfo");
      await call("a", "AdminService/ListBackups");
      for (let i = 0; i < 4; i++) await call("a", "AdminService/GetServerInfo");
      for (const [reason, count] of [
        ["UNAUTHENTICATED", 2],
        ["PERMISSION_DENIED", 1],
        ["RATE_LIMITED", 3],
      ] as const) {
        await untilMetric(own, series(reason), (value) => value !== undefined);
        assert.equal(await metric(own, series(reason)), count, reason);
      }
    } finally {
      await own.close();
    }
  });
});

describe("a stream whose caller is allowed it no longer", () => {
  /** Opens a stream as `a` and waits until it is open. */
  const opened = async (address: string) => {
    const stream = as("a", address).streamEnroll();
    const ended = new Promise<string>((resolve) =>
      stream.on("error", (failed: ServiceError) =>
        resolve(errorFromCall(failed).code),
      ),
    );
    stream.write({ open: { gallery: "door-1" } });
    await new Promise((resolve) => stream.once("data", resolve));
    return { stream, ended };
  };
  const withFile = (
    first: object,
    work: (
      own: WireServer,
      rewrite: (...changed: readonly object[]) => Promise<void>,
    ) => Promise<void>,
  ) =>
    inFolder(async (folder) => {
      const file = join(folder, "principals.yaml");
      const write = (...all: readonly object[]) =>
        writeFile(file, JSON.stringify({ principals: all }));
      await write(first);
      const admin = [principal("admin", "admin")];
      const own = await startWireServer({ auth: { principals: admin, file } });
      try {
        await as("admin", own.address).GalleryService.CreateGallery(
          flat("door-1"),
        );
        await work(own, write);
      } finally {
        await own.close();
      }
    });

  for (const [what, changed, reason] of [
    ["its token", principal("b", "writer"), "UNAUTHENTICATED"],
    ["its role", principal("a", "reader"), "PERMISSION_DENIED"],
    [
      "its gallery",
      principal("a", "writer", { galleries: ["lab"] }),
      "PERMISSION_DENIED",
    ],
  ] as const)
    test(`ends with ${reason} where ${what} goes from the file`, () =>
      withFile(principal("a", "writer"), async (own, rewrite) => {
        const { ended } = await opened(own.address);
        await rewrite(changed);
        assert.equal(await ended, reason);
      }));

  test("ends with UNAUTHENTICATED when the principal expires", () => {
    const expires_at = new Date(Date.now() + 4000).toISOString();
    return withFile(principal("a", "writer", { expires_at }), async (own) => {
      const { ended } = await opened(own.address);
      assert.equal(await ended, "UNAUTHENTICATED");
    });
  });

  test("is sent elsewhere when its connection has reached its age, as where nobody is authenticated", async () => {
    const own = await startWireServer({
      auth: { principals: [principal("a", "admin")] },
      grpc: { max_connection_age_ms: 1000 },
    });
    try {
      await as("a", own.address).GalleryService.CreateGallery(flat("door-1"));
      const { ended } = await opened(own.address);
      assert.equal(await ended, "SHUTTING_DOWN");
    } finally {
      await own.close();
    }
  });

  test("goes on where the principal may still do the same", () =>
    withFile(principal("a", "writer"), async (own, rewrite) => {
      const { stream } = await opened(own.address);
      const changed = principal("a", "writer", { calls_per_second: 99 });
      await rewrite(changed, principal("new", "reader"));
      const { AdminService } = as("new", own.address);
      const isRead = () =>
        AdminService.GetServerInfo({}).then(
          () => true,
          () => false,
        );
      while (!(await isRead()));
      stream.write({
        enrollment: { correlationId: "1", item: enrollment("e") },
      });
      const answer = await new Promise((resolve) =>
        stream.once("data", resolve),
      );
      assert.ok(JSON.stringify(answer).includes('"entryId":"e"'));
      stream.end();
      await new Promise((resolve) => stream.once("end", resolve));
    }));
});

describe("a server that authenticates its callers", () => {
  test("listens on an address that others can reach without insecure, and warns of what it shows", async () => {
    const warnings: string[] = [];
    const log = {
      ...silentLog,
      warn: (message: string) => warnings.push(message),
      child: () => silentLog,
    };
    const server = await startServer({
      config: parseConfig({
        device: "cpu",
        auth: { principals },
        serve: {
          models: join(wire.folder, "models"),
          data: join(wire.folder, "reachable"),
          listen: "0.0.0.0:0",
          metrics: "0.0.0.0:0",
        },
      }),
      log,
      announceMs: 0,
    });
    await server.close();
    assert.ok(warnings.some((one) => /in the clear: configure tls/.test(one)));
    assert.ok(warnings.some((one) => /metrics are shown to anybody/.test(one)));
    assert.ok(warnings.some((one) => /expired/.test(one)));
  });
});
