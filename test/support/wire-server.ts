import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type Client } from "#cli/client";
import { showAddress } from "#core/address";
import { parseConfig } from "#core/config";
import { ReidError } from "#core/errors";
import { silentLog } from "#core/log";
import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { startServer, type ReidServer, type StartOptions } from "#serve/server";
import {
  makeDatabase,
  removeScaled,
  scaledSettings,
  wireEngine,
} from "./scaled.js";
import { writeTinyBundle } from "./tiny-bundle.js";

/** A real server on a port chosen by the system, and a client of it. */
export interface WireServer {
  readonly folder: string;
  readonly server: ReidServer;
  readonly client: Client;
  readonly address: string;
  /** URL of its own database; undefined: the engine is the embedded one. */
  readonly database: string | undefined;
  close(): Promise<void>;
}

/** Starts a server with one tiny encoder, `door/1`; `settings` are the configuration's sections. */
export async function startWireServer(
  settings: Readonly<Record<string, object>> = {},
  options: Partial<StartOptions> = {},
): Promise<WireServer> {
  const folder = await mkdtemp(join(tmpdir(), "reid-wire-"));
  const models = join(folder, "models");
  await writeTinyBundle(models, "door");
  const own = wireEngine === "scaled" ? await makeDatabase() : undefined;
  const engines = own === undefined ? undefined : scaledSettings(own);
  const config = parseConfig({
    device: "cpu",
    inference: { workers: 1, threads_per_worker: 1 },
    ...settings,
    index: { ...settings["index"], ...engines?.index },
    store: { min_free_bytes: 0, ...settings["store"], ...engines?.store },
    // PostgreSQL has its own.
    backup: own === undefined ? (settings["backup"] ?? {}) : {},
    serve: {
      models,
      data: join(folder, "data"),
      listen: "127.0.0.1:0",
      metrics: "127.0.0.1:0",
      drain_ms: 2000,
      ...settings["serve"],
    },
  });
  const server = await startServer({ config, log: silentLog, ...options });
  const address = showAddress(server.address);
  const client = connect(address);
  return {
    folder,
    server,
    client,
    address,
    database: own?.postgres,
    close: async () => {
      client.close();
      await server.close();
      if (own !== undefined) await removeScaled(own);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A crop of noise as raw pixels, 20 × 10. */
export function noiseCrop(seed: number) {
  const random = randomStream(seed, "wire crop");
  return {
    raw: {
      data: Buffer.from(
        Uint8Array.from({ length: 600 }, () => random.below(256)),
      ),
      format: "PIXEL_FORMAT_RGB8" as const,
      widthPx: 10,
      heightPx: 20,
    },
  };
}

/** A unit feature of 12 numbers, of `door/1`. */
export function unitFeature(seed: number) {
  const random = randomStream(seed, "wire feature");
  const feature = Float32Array.from({ length: 12 }, () => random.normal());
  normalizeRows(feature, 12);
  return {
    f32le: Buffer.from(feature.buffer),
    model: { name: "door", version: 1 },
  };
}

/** Fails unless the call fails with this reason; gives the failure. */
export async function refused(
  call: Promise<unknown>,
  reason: string,
): Promise<ReidError> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof ReidError, String(error));
    assert.equal(error.code, reason, error.message);
    return error;
  }
  assert.fail(`expected ${reason}, but the call succeeded`);
}
