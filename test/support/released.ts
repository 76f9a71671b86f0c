import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";

import { systemClock, type Clock } from "#core/clock";
import { Store } from "#core/store";
import { MemoryStore } from "#serve/online-store";

import type { Client } from "#cli/client";
import { startWireServer, type WireServer } from "./wire-server.js";

/** Folders of data as versions have written them, one for each release. */
export const releasedFolder = "test/released";

/** A value as JSON has it. */
export type Plain =
  | string
  | number
  | boolean
  | null
  | readonly Plain[]
  | { readonly [name: string]: Plain };

/** One query of a gallery. */
export interface KeptQuery {
  readonly gallery: string;
  /** float32 [D], base64. */
  readonly feature: string;
  readonly model: { readonly name: string; readonly version: number };
  readonly k: number;
}

/** One enrolment that was made under a request id. */
export interface KeptRequest extends Omit<KeptQuery, "k"> {
  readonly requestId: string;
  readonly entryId: string;
}

/** What a data folder was told, and what it answered when it was written. */
export interface Kept {
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly madeAtMs: number;
  /** In the backup, forgotten since. */
  readonly forgotten: string;
  readonly queries: readonly KeptQuery[];
  readonly requests: readonly KeptRequest[];
  /** What {@link readAll} read. */
  readonly answers: Plain;
  /** What {@link readMemoryRows} read. */
  readonly memoryRows: Plain;
}

/** A clock that runs on from the time a folder was made: what is kept for a day or a week is there. */
function clockFrom(madeAtMs: number): Clock {
  const { monotonic } = systemClock;
  const started = monotonic();
  return { now: () => Math.round(madeAtMs + monotonic() - started), monotonic };
}

/** A server over a folder with `data`, `models` and `backups` in it, at the time it was made. */
export function startOn(folder: string, madeAtMs: number): Promise<WireServer> {
  return startWireServer(
    {
      serve: {
        online: true,
        data: join(folder, "data"),
        models: join(folder, "models"),
      },
      memory: { k1: 5, k2: 2, preset: "paper", eps: 0.9 },
      backup: { dir: join(folder, "backups") },
    },
    { clock: clockFrom(madeAtMs) },
  );
}

/** Everything that can be read of a server, less what is of its machine or its hour. */
export async function readAll(
  client: Client,
  { queries, requests }: Pick<Kept, "queries" | "requests">,
): Promise<Plain> {
  const { GalleryService, MemoryService, OperationService, AdminService } =
    client;
  const { galleries } = await GalleryService.ListGalleries({});
  const { operations } = await OperationService.ListOperations({});
  const { backups } = await AdminService.ListBackups({});
  const { clusters, clustering } = await MemoryService.ListClusters({});
  return plain({
    galleries: galleries.map(
      ({ sizeBytes: _size, indexedSequence: _at, ...facts }) => facts,
    ),
    held: await Promise.all(galleries.map(({ name }) => heldIn(client, name))),
    hits: await Promise.all(queries.map((query) => hitsOf(client, query))),
    responses: await Promise.all(
      requests.map((request) => responseOf(client, request)),
    ),
    memory: (await MemoryService.GetMemory({})).memory,
    ...{ clusters, clustering },
    rows: (await MemoryService.ListClusterRows({})).rows,
    operations,
    backups: backups.map(({ backupId, galleries: held }) => ({
      backupId,
      galleries: held.map(({ name, entryCount, sequence }) => ({
        ...{ name, entryCount, sequence },
      })),
    })),
  });
}

/** Every entry of a gallery with its feature and its kept crop, and its identities. */
async function heldIn({ GalleryService }: Client, gallery: string) {
  const page = { gallery, pageSize: 128 };
  const { entries } = await GalleryService.ListEntries({
    ...page,
    view: "ENTRY_VIEW_FEATURE",
  });
  const kept = await GalleryService.ListEntries({
    ...page,
    view: "ENTRY_VIEW_CROP",
  });
  const { identities } = await GalleryService.ListIdentities({ gallery });
  return {
    entries,
    crops: kept.entries.map(({ entryId, crop }) => ({ entryId, crop })),
    identities,
  };
}

async function hitsOf(
  { SearchService }: Client,
  { gallery, feature, model, k }: KeptQuery,
) {
  const queries = [
    { feature: { f32le: Buffer.from(feature, "base64"), model } },
  ];
  const { results } = await SearchService.Search({ gallery, k, queries });
  return results[0].hits.map(({ entry, similarity }) => ({
    ...{ entryId: entry?.entryId, similarity },
  }));
}

/** Makes the call of a request once more: it has been answered. */
export function responseOf(
  { GalleryService }: Client,
  { gallery, requestId, entryId, feature, model }: KeptRequest,
) {
  return GalleryService.Enroll({
    ...{ gallery, requestId },
    enrollments: [
      {
        entry: { entryId },
        feature: { f32le: Buffer.from(feature, "base64"), model },
      },
    ],
  });
}

/** The rows of the memory as the store has them, features too; of a folder that nobody has open. */
export async function readMemoryRows(folder: string): Promise<Plain> {
  const store = await Store.open(join(folder, "data"), { minFreeBytes: 0 });
  try {
    const { state, rows } = new MemoryStore(store, "door").read();
    return plain({ state, rows });
  } finally {
    await store.close();
  }
}

/** A message as JSON: bytes and numbers of features as base64, what is unset as null. */
function plain(value: unknown): Plain {
  if (value === undefined || value === null) return null;
  if (value instanceof Float32Array)
    return plain(
      new Uint8Array(value.buffer, value.byteOffset, value.length * 4),
    );
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object")
    return Object.fromEntries(
      Object.entries(value).map(([name, one]) => [name, plain(one)]),
    );
  if (typeof value === "number" && !Number.isFinite(value))
    return String(value);
  assert.ok(
    typeof value === "string" ||
      typeof value === "number" ||
      typeof value === "boolean",
  );
  return value;
}

/** What another processor's sums may differ by. */
const closeEnough = 1e-6;

/**
 * Fails where something that was there is not there any more, or is something else; a later version may say more.
 *
 * @param where  the path to it, for the message
 */
export function assertHolds(actual: Plain, expected: Plain, where = ""): void {
  if (typeof expected === "number" && typeof actual === "number") {
    const difference = Math.abs(actual - expected);
    assert.ok(
      difference <= closeEnough * Math.max(1, Math.abs(expected)),
      `${where} is ${actual}, was ${expected}`,
    );
    return;
  }
  if (Array.isArray(expected)) {
    assert.ok(Array.isArray(actual), `${where} is no list`);
    assert.equal(actual.length, expected.length, `length of ${where}`);
    for (const [i, one] of expected.entries())
      assertHolds(actual[i] as Plain, one as Plain, `${where}[${i}]`);
    return;
  }
  if (typeof expected === "object" && expected !== null) {
    assert.ok(typeof actual === "object" && actual !== null, where);
    const fields = actual as Readonly<Record<string, Plain>>;
    for (const [name, one] of Object.entries(expected))
      assertHolds(fields[name] ?? null, one as Plain, `${where}.${name}`);
    return;
  }
  assert.deepEqual(actual, expected, where);
}

// What LMDB writes is mostly empty.
const packedSuffix = ".mdb";
const locks = new Set(["lock", "lock.mdb"]);

/** Copies a folder as it is kept in the repository: stores compressed, without locks. */
export async function pack(from: string, to: string): Promise<void> {
  for (const path of await filesIn(from)) {
    if (locks.has(path.split("/").at(-1) ?? "")) continue;
    const bytes = await readFile(join(from, path));
    const isPacked = path.endsWith(packedSuffix);
    await place(
      join(to, isPacked ? `${path}.gz` : path),
      isPacked ? gzipSync(bytes, { level: 9 }) : bytes,
    );
  }
}

/** Undoes {@link pack}. */
export async function unpack(from: string, to: string): Promise<void> {
  for (const path of await filesIn(from)) {
    const bytes = await readFile(join(from, path));
    const isPacked = path.endsWith(`${packedSuffix}.gz`);
    await place(
      join(to, isPacked ? path.slice(0, -3) : path),
      isPacked ? gunzipSync(bytes) : bytes,
    );
  }
}

async function place(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
}

async function filesIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, {
    recursive: true,
    withFileTypes: true,
  });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
