// Started by the crash tests as a process of its own: enrolls until it is killed, and says what was acknowledged.
//
//   node enrolling-child.js FOLDER ROUND [CALLS]
import { writeSync } from "node:fs";

import { systemClock } from "#core/clock";
import { Store } from "#core/store";
import { GalleryStore } from "#index/gallery-store";

import { featureNamed } from "./galleries.js";

const [folder, round, calls = "1000000"] = process.argv.slice(2);
const dimension = 32;
const say = (): void => undefined;
const store = await Store.open(folder, { minFreeBytes: 0 });
const galleries = await GalleryStore.open(store, {
  clock: systemClock,
  log: { info: say, warn: say },
});
const gallery = galleries.known().some(({ name }) => name === "door")
  ? await galleries.get("door")
  : await galleries.create({
      name: "door",
      model: { name: "external", version: 1 },
      dimension,
    });
writeSync(1, "ready\n");

// Four callers at once, so that transactions are shared.
const caller = async (lane: number): Promise<void> => {
  for (let call = 0; call < Number(calls); call++) {
    const names = Array.from(
      { length: 1 + ((call + lane) % 5) },
      (_, i) => `r${round}-l${lane}-c${call}-${i}`,
    );
    const { results } = await gallery.enroll(
      names.map((entryId) => ({
        entryId,
        feature: featureNamed(entryId, dimension),
      })),
    );
    // One write call a line: a line is there whole or not at all.
    writeSync(
      1,
      results
        .map(({ entryId, sequence }) => `ack ${entryId} ${sequence}\n`)
        .join(""),
    );
  }
};
await Promise.all([0, 1, 2, 3].map(caller));
await galleries.close();
await store.close();
