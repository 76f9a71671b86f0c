import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  Client,
  credentials,
  loadPackageDefinition,
  type GrpcObject,
  type ServiceClientConstructor,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { protoPath as healthProto } from "grpc-health-check";
import { parseConfig } from "#core/config";
import { silentLog, type Log } from "#core/log";
import { startServer } from "#serve/server";
import { serviceNames } from "#serve/protocol";
import { rpcNames, rpcs } from "#serve/rpcs";
import { failedCall } from "../support/raw-call.js";
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

describe("RPCs that are not served", () => {
  for (const name of rpcNames) {
    const remedy = rpcs[name].unsupported;
    if (remedy === undefined) continue;
    test(`${name} answers UNIMPLEMENTED and says what to use`, async () => {
      const error = await failedCall(wire.address, name);
      assert.equal(error.code, 12);
      assert.match(error.details, /is unsupported by this server: /);
      assert.ok(error.details.includes(remedy));
    });
  }
});

describe("a failed call", () => {
  test("carries a google.rpc.Status with reason, domain, facts and the field", async () => {
    const error = await failedCall(wire.address, "GalleryService/GetGallery");
    assert.equal(error.code, 3);
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    assert.ok(bytes instanceof Buffer && bytes.length < 4096);
    const text = bytes.toString("latin1");
    for (const part of [
      "FIELD_INVALID",
      "google.rpc.ErrorInfo",
      "google.rpc.BadRequest",
      "reid",
      "gallery",
    ])
      assert.ok(text.includes(part), part);
  });

  test("names the resource that is not there", async () => {
    const error = await refused(
      wire.client.GalleryService.GetGallery({ gallery: "nowhere" }),
      "GALLERY_NOT_FOUND",
    );
    assert.equal(error.kind, "not-found");
    assert.equal(error.facts["gallery"], "nowhere");
  });
});

describe("the field that a refused call is about", () => {
  /** Bytes of `field` as the first field of a FieldViolation. */
  const violation = (field: string) =>
    Buffer.concat([Buffer.from([10, field.length]), Buffer.from(field)]);
  const cases = [
    ["GalleryService/ListGalleries", { pageToken: "no" }, "page_token"],
    [
      "GalleryService/CreateGallery",
      { gallery: { name: "x" }, requestId: "no" },
      "request_id",
    ],
    ["EmbedService/Embed", {}, "crops"],
    ["SearchService/Search", { queries: [{}] }, "k"],
  ] as const;
  for (const [name, request, field] of cases)
    test(`is ${field} for ${name}`, async () => {
      const error = await failedCall(wire.address, name, request);
      assert.equal(error.code, 3);
      const [bytes] = error.metadata.get("grpc-status-details-bin");
      assert.ok(bytes instanceof Buffer && bytes.includes(violation(field)));
    });

  test("is request_id where one was used for another call, also of another method", async () => {
    const requestId = randomUUID();
    const request = { gallery: { name: "once" }, requestId };
    await wire.client.GalleryService.CreateGallery(request);
    const error = await failedCall(
      wire.address,
      "GalleryService/CreateGallery",
      {
        gallery: { name: "twice" },
        requestId,
      },
    );
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    assert.ok(bytes instanceof Buffer);
    assert.ok(bytes.includes("REQUEST_ID_REUSED"));
    assert.ok(bytes.includes(violation("request_id")));
    const enrollment = { feature: unitFeature(1) };
    await refused(
      wire.client.GalleryService.Enroll({
        gallery: "once",
        enrollments: [enrollment],
        requestId,
      }),
      "REQUEST_ID_REUSED",
    );
    await wire.client.GalleryService.DeleteGallery({ gallery: "once" });
    assert.equal(
      (await wire.client.GalleryService.CreateGallery(request)).gallery?.name,
      "once",
    );
    await refused(
      wire.client.GalleryService.GetGallery({ gallery: "once" }),
      "GALLERY_NOT_FOUND",
    );
  });
});

describe("GetServerInfo, models and operations", () => {
  test("say what the server is", async () => {
    const info = await wire.client.AdminService.GetServerInfo({});
    assert.match(info.version, /^\d+\.\d+\.\d+$/);
    assert.equal(info.limits["queries"], "64");
    assert.deepEqual({ ...info.defaultModel }, { name: "door", version: 1 });
    assert.equal(info.writable, true);
    assert.equal(info.role, "admin");
  });

  test("list and describe models, and refuse unknown ones", async () => {
    const { ModelService } = wire.client;
    const { models } = await ModelService.ListModels({});
    assert.deepEqual(
      models.map(({ state, dimension }) => [state, dimension]),
      [["MODEL_STATE_ACTIVE", 12]],
    );
    const { info } = await ModelService.GetModel({
      model: { name: "door", version: 1 },
    });
    assert.match(info?.sha256 ?? "", /^[0-9a-f]{64}$/);
    await refused(
      ModelService.GetModel({ model: { name: "no" } }),
      "MODEL_NOT_FOUND",
    );
    await refused(
      wire.client.OperationService.GetOperation({ operationId: "no" }),
      "OPERATION_NOT_FOUND",
    );
  });

  test("say that there is no memory without online mode", async () => {
    const { MemoryService } = wire.client;
    await refused(MemoryService.GetMemory({}), "MEMORY_OFF");
    await refused(MemoryService.ListClusters({}), "MEMORY_OFF");
    await refused(MemoryService.ListClusterRows({}), "MEMORY_OFF");
    await refused(MemoryService.Recluster({}), "MEMORY_OFF");
  });
});

describe("health", () => {
  test("says which services serve", async () => {
    const loaded = loadPackageDefinition(
      loadSync(healthProto, { enums: String }),
    );
    const v1 = ((loaded["grpc"] as GrpcObject)["health"] as GrpcObject)[
      "v1"
    ] as GrpcObject;
    const Constructor = v1["Health"] as ServiceClientConstructor;
    const client = new Constructor(wire.address, credentials.createInsecure());
    const { path, requestSerialize, responseDeserialize } =
      Constructor.service["Check"];
    const check = (service: string) =>
      new Promise<string>((resolve, reject) =>
        client.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          { service },
          (error, response) => {
            if (error === null)
              resolve((response as { status: string }).status);
            else reject(error);
          },
        ),
      );
    for (const service of [
      "",
      "liveness",
      "reid.v1.EmbedService",
      "reid.v1.SearchService",
      "reid.v1.GalleryService",
    ])
      assert.equal(await check(service), "SERVING", service);
    assert.equal(await check("reid.v1.MemoryService"), "NOT_SERVING");
    client.close();
  });
});

describe("reflection", () => {
  for (const version of ["v1", "v1alpha"])
    test(`lists every service under ${version}, health included`, async () => {
      const client = new Client(wire.address, credentials.createInsecure());
      const call = client.makeBidiStreamRequest(
        `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
      );
      const answer = new Promise<Buffer>((resolve, reject) => {
        call.on("data", resolve);
        call.on("error", reject);
      });
      // list_services, field 7, with any text.
      call.write(Buffer.from([0x3a, 1, 0x2a]));
      const names = await answer;
      call.end();
      for (const name of [
        "grpc.health.v1.Health",
        ...serviceNames.map((one) => `reid.v1.${one}`),
      ])
        assert.ok(names.includes(name), name);
      client.close();
    });
});

describe("starting", () => {
  const start = (serve: object, log: Log = silentLog) =>
    startServer({
      config: parseConfig({
        device: "cpu",
        serve: {
          models: join(wire.folder, "models"),
          data: join(wire.folder, "other"),
          listen: "127.0.0.1:0",
          metrics: "",
          ...serve,
        },
      }),
      log,
    });

  test("is refused on an address that others can reach, for calls and for metrics", async () => {
    await refused(start({ listen: "0.0.0.0:0" }), "LISTEN_INSECURE");
    await refused(start({ metrics: "0.0.0.0:0" }), "LISTEN_INSECURE");
  });

  test("says on loopback that only this machine is listened to", async () => {
    const said: string[] = [];
    const log = {
      ...silentLog,
      info: (message: string) => said.push(message),
      child: () => silentLog,
    };
    await refused(
      start({ data: join(wire.folder, "data") }, log),
      "STORE_LOCKED",
    );
    assert.match(said[0], /only this machine/);
  });

  test("warns at each start where insecure is meant", async () => {
    const warnings: string[] = [];
    const log = {
      ...silentLog,
      warn: (message: string) => warnings.push(message),
    };
    const server = await startServer({
      config: parseConfig({
        device: "cpu",
        serve: {
          models: join(wire.folder, "models"),
          data: join(wire.folder, "open"),
          listen: "0.0.0.0:0",
          metrics: "",
          insecure: true,
        },
      }),
      log: { ...log, child: () => silentLog },
      announceMs: 0,
    });
    await server.close();
    assert.match(warnings[0], /--insecure/);
  });

  test("fails with one clear line where the port is taken", async () => {
    const error = await refused(
      start({ listen: wire.address }),
      "LISTEN_FAILED",
    );
    assert.match(error.message, /the port is in use.*choose another port/);
    const { port } = wire.server.metricsAddress ?? {};
    const metrics = await refused(
      start({ metrics: `127.0.0.1:${port}` }),
      "LISTEN_FAILED",
    );
    assert.match(metrics.message, /the port is in use/);
  });

  test("fails where another process, or this one, has the data folder", async () => {
    await refused(start({ data: join(wire.folder, "data") }), "STORE_LOCKED");
  });
});

describe("ending", () => {
  test("answers what is under way, and keeps what was acknowledged", async () => {
    const one = await startWireServer();
    const call = one.client.EmbedService.Embed({ crops: [noiseCrop(1)] });
    const [response] = await Promise.all([
      call,
      one.client.AdminService.GetServerInfo({}).then(() => one.server.close()),
    ]);
    assert.equal(response.results.length, 1);
    await one.close();
  });
});
