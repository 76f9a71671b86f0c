import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect, type Client } from "#cli/client";
import { showAddress } from "#core/address";
import { parseConfig } from "#core/config";
import { silentLog } from "#core/log";
import { startServer } from "#serve/server";
import { writeTinyBundle } from "../support/tiny-bundle.js";
import { noiseCrop, refused, unitFeature } from "../support/wire-server.js";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "reid-models-wire-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** Runs a server on the test's models and data for as long as the work takes. */
async function serving(
  name: string,
  work: (client: Client) => Promise<void>,
): Promise<void> {
  const server = await startServer({
    config: parseConfig({
      device: "cpu",
      inference: { workers: 1, threads_per_worker: 1 },
      store: { min_free_bytes: 0 },
      serve: {
        models: join(folder, name, "models"),
        data: join(folder, name, "data"),
        listen: "127.0.0.1:0",
        metrics: "",
        drain_ms: 2000,
      },
    }),
    log: silentLog,
  });
  const client = connect(showAddress(server.address));
  try {
    await work(client);
  } finally {
    client.close();
    await server.close();
  }
}

describe("a server without any model", () => {
  test("refuses crops with NO_ACTIVE_MODEL, and serves galleries of features made elsewhere", async () => {
    await serving("empty", async (client) => {
      const { EmbedService, GalleryService, SearchService } = client;
      const error = await refused(
        EmbedService.Embed({ crops: [noiseCrop(1)] }),
        "NO_ACTIVE_MODEL",
      );
      assert.equal(error.kind, "failed-precondition");
      await refused(
        GalleryService.CreateGallery({ gallery: { name: "g" } }),
        "NO_ACTIVE_MODEL",
      );
      await refused(client.ModelService.GetModel({}), "NO_ACTIVE_MODEL");
      assert.deepEqual((await client.ModelService.ListModels({})).models, []);
      const { defaultModel } = await client.AdminService.GetServerInfo({});
      assert.equal(defaultModel, null);
      const model = { name: "external", version: 1 };
      await GalleryService.CreateGallery({
        gallery: { name: "outside", model, dimension: 12 },
      });
      const feature = { ...unitFeature(1), model };
      await GalleryService.Enroll({
        gallery: "outside",
        enrollments: [{ feature, entry: { entryId: "e" } }],
      });
      const { results } = await SearchService.Search({
        gallery: "outside",
        k: 1,
        queries: [{ feature }],
        // No version of it is active: the caller's own count is meant.
        model: { name: "external" },
      });
      assert.equal(results[0].hits[0].entry?.entryId, "e");
    });
  });
});

describe("a version published after a gallery was made", () => {
  test("becomes active at the next start, and the gallery's crops are still embedded with its own", async () => {
    // Regression: only the newest version was loaded, and the gallery took no crops any more.
    const models = join(folder, "two", "models");
    await writeTinyBundle(models, "door", 1);
    const search = ({ SearchService }: Client) =>
      SearchService.Search({
        gallery: "g",
        k: 1,
        queries: [{ crop: noiseCrop(1) }],
      });
    await serving("two", async (client) => {
      const { GalleryService } = client;
      await GalleryService.CreateGallery({ gallery: { name: "g" } });
      await GalleryService.Enroll({
        gallery: "g",
        enrollments: [{ crop: noiseCrop(1), entry: { entryId: "e" } }],
      });
    });
    await writeTinyBundle(models, "door", 2);
    await serving("two", async (client) => {
      const embedded = await client.EmbedService.Embed({
        crops: [noiseCrop(1)],
      });
      assert.equal(embedded.model?.version, 2);
      const { results, model } = await search(client);
      assert.equal(model?.version, 1);
      assert.equal(results[0].hits[0].entry?.entryId, "e");
      assert.ok(results[0].hits[0].similarity > 0.9999);
      const { models: listed } = await client.ModelService.ListModels({});
      assert.deepEqual(
        listed.map((one) => [one.model?.version, one.state, one.galleries]),
        [
          [2, "MODEL_STATE_ACTIVE", []],
          [1, "MODEL_STATE_LOADED", ["g"]],
        ],
      );
    });
  });
});

describe("a pin to version 0", () => {
  const query = { crop: noiseCrop(1) };
  /** What may pin a gallery's version. */
  const asks = ({ SearchService }: Client, gallery: string) => [
    (model: object) =>
      SearchService.Search({ gallery, k: 1, queries: [query], model }),
    (model: object) => SearchService.Identify({ gallery, ...query, model }),
  ];

  test("means the active version, whether or not the gallery is on it", async () => {
    const models = join(folder, "pins", "models");
    await writeTinyBundle(models, "door", 1);
    await serving("pins", async ({ GalleryService }) => {
      await GalleryService.CreateGallery({ gallery: { name: "old" } });
    });
    await writeTinyBundle(models, "door", 2);
    await serving("pins", async (client) => {
      const { gallery } = await client.GalleryService.CreateGallery({
        gallery: { name: "new", model: { name: "door", version: 0 } },
      });
      assert.equal(gallery?.model?.version, 2);
      for (const pin of [{}, { version: 0 }, { name: "door" }]) {
        for (const ask of asks(client, "new"))
          assert.equal((await ask(pin)).model?.version, 2);
        for (const ask of asks(client, "old")) {
          const { facts } = await refused(ask(pin), "MODEL_MISMATCH");
          assert.equal(facts["expected"], "door/1");
          assert.equal(facts["received"], "door/2");
        }
      }
      for (const ask of asks(client, "old"))
        assert.equal((await ask({ version: 1 })).model?.version, 1);
    });
  });
});

describe("ListModels", () => {
  test("lists a version published meanwhile, and forgets one that was taken away", async () => {
    // Regression: a version whose folder was gone made every list fail.
    const models = join(folder, "moving", "models");
    await writeTinyBundle(models, "door", 1);
    await serving("moving", async ({ ModelService, EmbedService }) => {
      const versions = async () =>
        (await ModelService.ListModels({})).models.map(
          ({ model, state }) => `${model?.version} ${state}`,
        );
      await writeTinyBundle(models, "door", 2);
      assert.deepEqual(await versions(), [
        "2 MODEL_STATE_ON_DISK",
        "1 MODEL_STATE_ACTIVE",
      ]);
      await refused(
        EmbedService.Embed({
          crops: [noiseCrop(1)],
          model: { name: "door", version: 2 },
        }),
        "MODEL_NOT_LOADED",
      );
      await rm(join(models, "door"), { recursive: true });
      assert.deepEqual(await versions(), ["1 MODEL_STATE_ACTIVE"]);
      const error = await refused(
        ModelService.GetModel({ model: { name: "nobody", version: 1 } }),
        "MODEL_NOT_FOUND",
      );
      assert.equal(error.facts["model"], "nobody");
    });
  });
});
