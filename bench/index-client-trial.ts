// A client in a process of its own: single enrolments, bulk enrolments, or searches, for a time or a number.
import { connect } from "#cli/client";
import { systemClock } from "#core/clock";

import { readRows } from "./index-data.js";
import { trialInput, trialResult } from "./trial.js";

/** What the client does. */
export interface ClientInput {
  readonly address: string;
  readonly gallery: string;
  readonly does: "single" | "bulk" | "search";
  /** float32 [N, D] file: what is enrolled, or what is searched with. */
  readonly features: string;
  readonly dimension: number;
  /** The first row it uses, so that clients enrol different ones. */
  readonly first: number;
  /** Rows to enrol; searches go on for `seconds`. */
  readonly count: number;
  readonly seconds?: number;
  /** Calls in flight. */
  readonly callers: number;
  readonly freshness?: "FRESHNESS_INDEXED";
  /** Makes the gallery first. */
  readonly create?: "hnsw";
}

/** What came of it. */
export interface ClientTrial {
  /** Entries acknowledged, or searches answered. */
  readonly count: number;
  /** Its first call, milliseconds since 1970. */
  readonly startedAtMs: number;
  readonly seconds: number;
  /** Of each call, ms, in order. */
  readonly callMs: readonly number[];
}

const ENTRIES_OF_BULK = 256;

const { monotonic } = systemClock;
const input = trialInput<ClientInput>();
const { gallery, dimension, callers } = input;
const client = connect(input.address);
await client.ready(60_000);
const rows = await readRows(input.features);
const available = rows.length / dimension;
const callMs: number[] = [];
const model = { name: "external", version: 1 };
const startedAtMs = systemClock.now();
const started = monotonic();

function feature(row: number) {
  const at = (row % available) * dimension * 4;
  return {
    f32le: Buffer.from(rows.buffer, rows.byteOffset + at, dimension * 4),
    model,
  };
}

async function enroll(first: number, count: number): Promise<void> {
  const began = monotonic();
  const { results } = await client.GalleryService.Enroll({
    gallery,
    enrollments: Array.from({ length: count }, (_, i) => ({
      feature: feature(first + i),
      entry: {
        identity: `p${(first + i) % 1000}`,
        cameraId: String((first + i) % 8),
      },
    })),
  });
  callMs.push(monotonic() - began);
  const failed = results.find(({ error }) => error !== null);
  if (failed !== undefined) throw new Error(failed.error?.message ?? "");
}

async function search(row: number): Promise<void> {
  const began = monotonic();
  await client.SearchService.Search({
    gallery,
    k: 10,
    queries: [{ feature: feature(row) }],
    ...(input.freshness === undefined ? {} : { freshness: input.freshness }),
  });
  callMs.push(monotonic() - began);
}

if (input.create !== undefined)
  await client.GalleryService.CreateGallery({
    gallery: { name: gallery, model, dimension, index: { hnsw: {} } },
  });
let next = 0;
const end = started + (input.seconds ?? Infinity) * 1000;

async function caller(): Promise<void> {
  const step = input.does === "bulk" ? ENTRIES_OF_BULK : 1;
  while (next < input.count && monotonic() < end) {
    const first = next;
    next += step;
    if (input.does === "search") await search(input.first + first);
    else await enroll(input.first + first, Math.min(step, input.count - first));
  }
}

await Promise.all(Array.from({ length: callers }, caller));
const result: ClientTrial = {
  count: Math.min(next, input.count),
  startedAtMs,
  seconds: (monotonic() - started) / 1000,
  callMs,
};
client.close();
trialResult(result);
