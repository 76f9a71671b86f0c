import { readFile } from "node:fs/promises";
import type { Clock } from "#core/clock";
import type { Config } from "#core/config";
import { ConfigError } from "#core/errors";
import type { Log } from "#core/log";
import type { Store } from "#core/store";
import type { Telemetry } from "#core/telemetry";
import { setIndexThreads } from "#index/faiss";
import type { Galleries } from "#index/galleries";
import { GalleryStore } from "#index/gallery-store";
import type { RequestLog } from "#index/request-log";
import { ScaledGalleries } from "#index/scaled-galleries";
import { Lanes, type InTurn } from "./lanes.js";
import { StoredOperations, type OperationTable } from "./operation-table.js";
import { SharedLanes } from "./shared-lanes.js";
import { PostgresOperations } from "./shared-operations.js";

/** What galleries are opened with. */
export interface GalleryEngineOptions {
  readonly config: Config;
  /** Of this server alone. */
  readonly store: Store;
  /** Names this process to others. */
  readonly instanceId: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly telemetry: Telemetry;
  /** Told that a gallery wants another index than it has. */
  readonly onOutgrown: (gallery: string) => void;
}

/** Galleries, and what servers that share them share beside. */
export interface OpenedGalleries {
  readonly galleries: Galleries;
  /** Of calls whose writes are no gallery's. */
  readonly requests: RequestLog;
  readonly operations: OperationTable;
  /** Decisions that may enrol, by gallery. */
  readonly decisions: InTurn;
}

/**
 * Opens the galleries on the engines that the configuration names.
 *
 * @throws {ConfigError} the engines do not go together
 * @throws as `GalleryStore.open` and `ScaledGalleries.open`
 */
export async function openGalleries(
  options: GalleryEngineOptions,
): Promise<OpenedGalleries> {
  const { config, store, clock, log, telemetry } = options;
  const { instanceId, onOutgrown } = options;
  const shared = {
    clock,
    log,
    exactBelow: config.search.exactBelow,
    tail: config.search.tail,
    maxGalleries: config.limits.galleries,
    onExpire: (gallery: string, entries: number) =>
      telemetry.add("reid.gallery.writes", entries, {
        gallery,
        write: "expire",
      }),
  };
  if (isScaled(config)) {
    const galleries = await ScaledGalleries.open({
      ...shared,
      flatBelow: config.index.flatBelow,
      onOutgrown,
      ...(await addressesOf(config)),
    });
    const { postgres, requests } = galleries;
    return {
      ...{ galleries, requests },
      operations: new PostgresOperations(postgres, instanceId),
      decisions: new SharedLanes(postgres),
    };
  }
  // Before the first index is made: the threads start with it.
  setIndexThreads(config.index.threads, config.index.affinity);
  const galleries = await GalleryStore.open(store, {
    ...shared,
    binding: config.index.binding,
    flatBelow: config.index.flatBelow,
    compactAfterMs: config.store.compactAfterMs,
    snapshots: {
      writes: config.index.snapshotWrites,
      afterMs: config.index.snapshotAfterMs,
    },
    onOutgrown,
  });
  return {
    ...{ galleries, requests: galleries.requests },
    operations: new StoredOperations(store),
    decisions: new Lanes(),
  };
}

/** Whether galleries lie in Milvus and PostgreSQL. @throws {ConfigError} only one of the two is named */
function isScaled({ index, store, backup }: Config): boolean {
  const isMilvus = index.engine === "milvus";
  if (isMilvus !== (store.engine === "postgres"))
    throw new ConfigError(
      "store.engine",
      `${store.engine} with index.engine ${index.engine}`,
      "postgres with milvus, or lmdb with faiss",
    );
  if (isMilvus && backup.dir !== undefined)
    throw new ConfigError(
      "backup.dir",
      "set with index.engine milvus",
      "none: back up PostgreSQL with its own tools",
    );
  return isMilvus;
}

async function addressesOf({ index, store }: Config) {
  const { url, passwordFile, connections } = store.postgres;
  const { address, tokenFile } = index.milvus;
  const password = await secretFrom(
    passwordFile,
    "store.postgres.password_file",
  );
  const token = await secretFrom(tokenFile, "index.milvus.token_file");
  return {
    postgres: {
      url,
      connections,
      ...(password === undefined ? {} : { password }),
    },
    milvus: { address, ...(token === undefined ? {} : { token }) },
  };
}

/** What a file says, without the line's end. */
async function secretFrom(
  path: string | undefined,
  field: string,
): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ConfigError(
      field,
      `${path} (${code})`,
      "a file that can be read",
    );
  }
}
