import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { randomStream } from "#core/random";
import type { GallerySpec } from "#index/gallery-types";

import {
  inFolder,
  openGalleries,
  type OpenGalleries,
} from "../support/galleries.js";
import { GalleryModel, type ModelStep } from "../support/gallery-model.js";

const operations = 250;
const model = { name: "m", version: 1 };

const specs: readonly GallerySpec[] = [
  { name: "flat", model, dimension: 12, index: { kind: "flat" } },
  { name: "graph", model, dimension: 12 },
];

for (const [spec, seed] of specs.flatMap((one) =>
  [1, 2].map((n) => [one, n] as const),
))
  describe(`gallery ${spec.name} against a Map, seed ${seed}`, () => {
    test("agrees after every operation, over restarts, rebuilds and snapshots", () =>
      inFolder(async (folder) => {
        let open: OpenGalleries = await openGalleries(folder);
        const { clock } = open;
        await open.galleries.create(spec);
        const gallery = () => open.galleries.get(spec.name);
        const known = new GalleryModel(
          spec,
          randomStream(seed, "gallery model"),
          { clock, gallery, sweep: () => open.galleries.sweep() },
        );

        /** Writes of one turn share a transaction: nothing of it may be lost on its way. */
        const together = async (): Promise<void> => {
          const entryId = known.name();
          const fields = known.fields(20_000_000);
          const feature = known.feature();
          const isDeleted = known.random.below(2) === 0;
          known.say(`together ${entryId} ${isDeleted ? "deleted" : "kept"}`);
          const one = await gallery();
          // Behind the check, in this order.
          const checking = one.check();
          const enrolling = one.enroll([
            { entryId, feature, ...known.given(fields) },
          ]);
          await setImmediate();
          await Promise.all([
            checking,
            enrolling,
            one.updateEntries({ entryIds: [entryId] }, { trackId: "t4" }),
            ...(isDeleted ? [one.deleteEntries({ entryIds: [entryId] })] : []),
          ]);
          known.sweep();
          known.sequence += isDeleted ? 3 : 2;
          const { sequence } = known;
          if (isDeleted) known.known.delete(entryId);
          else
            known.known.set(entryId, {
              ...fields,
              ...{ entryId, feature, trackId: "t4", sequence },
              enrolledAtUs: known.nowUs(),
            });
          assert.equal(one.describe().sequence, sequence);
        };

        const restart = async (): Promise<void> => {
          known.say("restart");
          await open.close();
          open = await openGalleries(folder, { clock });
        };

        const steps: readonly ModelStep[] = [
          ...known.steps,
          [5, together],
          [2, async () => (await gallery()).snapshot()],
          [2, async () => (await gallery()).rebuild()],
          [4, restart],
        ];
        await known.walk(operations, steps);
        await open.close();
      }));
  });
