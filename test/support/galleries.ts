import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Clock } from "#core/clock";
import { randomStream, type RandomStream } from "#core/random";
import { Store, type StoreOptions } from "#core/store";
import { GalleryStore, type GalleryStoreOptions } from "#index/gallery-store";

/** A clock that stands still until it is stepped. */
export class SteppedClock implements Clock {
  timeMs: number;

  constructor(timeMs = 1_700_000_000_000) {
    this.timeMs = timeMs;
  }

  now(): number {
    return this.timeMs;
  }

  monotonic(): number {
    return this.timeMs;
  }
}

/** float32 [count, dimension], random directions of unit norm. */
export function unitFeatures(
  random: RandomStream,
  count: number,
  dimension: number,
): Float32Array {
  const features = new Float32Array(count * dimension);
  for (let row = 0; row < count; row++) {
    const values = Array.from({ length: dimension }, () => random.normal());
    const length = Math.hypot(...values);
    values.forEach((value, i) => {
      features[row * dimension + i] = value / length;
    });
  }
  return features;
}

/** One random unit feature for each name: the same name, the same feature. */
export function featureNamed(name: string, dimension: number): Float32Array {
  return unitFeatures(randomStream(1, name), 1, dimension);
}

/** A folder of its own, removed when the action ends. */
export async function inFolder<Result>(
  action: (folder: string) => Promise<Result>,
): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), "reid-test-"));
  try {
    return await action(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Galleries and the store under them, open. */
export interface OpenGalleries {
  readonly store: Store;
  readonly galleries: GalleryStore;
  readonly clock: SteppedClock;
  /** Lines logged so far. */
  readonly lines: string[];
  /** Checks every gallery, then closes all. */
  close(): Promise<void>;
}

/** Opens the galleries of a folder; writes need no free space unless the options say so. */
export async function openGalleries(
  folder: string,
  options: Partial<GalleryStoreOptions> & {
    readonly store?: StoreOptions;
    readonly clock?: SteppedClock;
  } = {},
): Promise<OpenGalleries> {
  const { store: storeOptions, clock = new SteppedClock(), ...rest } = options;
  const store = await Store.open(folder, { minFreeBytes: 0, ...storeOptions });
  const lines: string[] = [];
  const say = (message: string): void => {
    // Said once by every store of a machine without the addon, whatever the test is about.
    if (!message.startsWith("galleries are searched")) lines.push(message);
  };
  const galleries = await GalleryStore.open(store, {
    log: { info: say, warn: say },
    ...rest,
    clock,
  });
  return {
    store,
    galleries,
    clock,
    lines,
    close: async () => {
      for (const gallery of galleries.known())
        assert.deepEqual((await gallery.check()).problems, []);
      await galleries.close();
      await store.close();
    },
  };
}
