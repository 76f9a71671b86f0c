import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { randomStream } from "#core/random";
import type { GallerySpec } from "#index/gallery-types";
import { ScaledGalleries } from "#index/scaled-galleries";

import { SteppedClock } from "../support/galleries.js";
import { GalleryModel, type ModelStep } from "../support/gallery-model.js";
import { inDatabase, optionsOf, skipScaled } from "../support/scaled.js";

const operations = 100;
const serverCount = 3;
const model = { name: "m", version: 1 };

const specs: readonly GallerySpec[] = [
  { name: "flat", model, dimension: 12, index: { kind: "flat" } },
  { name: "graph", model, dimension: 12 },
];

for (const [i, spec] of specs.entries())
  describe(
    `gallery ${spec.name} of three servers against a Map`,
    { skip: skipScaled },
    () => {
      test("agrees after every operation, whichever server makes it and whichever is asked next", () =>
        inDatabase(async (services) => {
          const random = randomStream(1 + i, "gallery model");
          const clock = new SteppedClock();
          const start = () => ScaledGalleries.open(optionsOf(services, clock));
          const servers = [await start()];
          await servers[0].create(spec);
          while (servers.length < serverCount) servers.push(await start());
          const any = () => servers[random.below(serverCount)];
          const gallery = () => any().get(spec.name);
          const known = new GalleryModel(spec, random, {
            ...{ clock, gallery },
            sweep: () => any().sweep(),
            isSweptAtOnce: true,
          });

          /** New entries through every server at once: each call's come one after another, and no number twice. */
          const atOnce = async (): Promise<void> => {
            const items = servers.map((_, n) =>
              [0, 1].map((m) => ({
                entryId: `at${n}${m}`,
                feature: known.feature(),
                ...known.fields(20_000_000),
              })),
            );
            known.say("enroll through every server at once");
            const outcomes = await Promise.all(
              servers.map(async (server, n) =>
                (await server.get(spec.name)).enroll(
                  items[n].map(({ feature, ...item }) => ({
                    feature,
                    ...known.given(item),
                  })),
                ),
              ),
            );
            known.sweep();
            const before = known.sequence;
            for (const [n, { results }] of outcomes.entries()) {
              const [first, second] = results.map(({ sequence }) => sequence);
              assert.equal(second, first + 1);
              for (const [m, one] of items[n].entries()) {
                const { sequence } = results[m];
                const enrolledAtUs = known.nowUs();
                known.known.set(one.entryId, {
                  ...one,
                  enrolledAtUs,
                  sequence,
                });
              }
              known.sequence = Math.max(known.sequence, second);
            }
            const given = outcomes.flatMap(({ results }) =>
              results.map(({ sequence }) => sequence),
            );
            assert.deepEqual(
              given.sort((a, b) => a - b),
              given.map((_, n) => before + 1 + n),
            );
          };

          const restart = async (): Promise<void> => {
            const at = random.below(serverCount);
            known.say(`restart server ${at}`);
            await servers[at].close();
            servers[at] = await start();
          };

          const steps: readonly ModelStep[] = [
            ...known.steps,
            [5, atOnce],
            [2, async () => (await gallery()).rebuild()],
            [4, restart],
          ];
          try {
            await known.walk(operations, steps);
            await servers[0].delete(spec.name);
          } finally {
            for (const one of servers) await one.close();
          }
        }));
    },
  );
