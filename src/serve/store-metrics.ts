import type { Clock } from "#core/clock";
import type { Store } from "#core/store";
import type { Telemetry } from "#core/telemetry";
import type { Galleries } from "#index/galleries";
import type { Backups } from "./backups.js";

/**
 * Lets the store's size, free space and state be scraped.
 *
 * @returns  takes the readers away again
 */
export function observeStore(store: Store, telemetry: Telemetry): () => void {
  const stops = [
    telemetry.observe("reid.store.size", async () => [
      { value: (await store.status()).sizeBytes },
    ]),
    telemetry.observe("reid.store.free", async () => [
      { value: (await store.status()).freeBytes },
    ]),
    telemetry.observe("reid.store.capacity", async () => [
      { value: (await store.status()).capacityBytes },
    ]),
    telemetry.observe("reid.store.writable", async () => [
      { value: (await store.status()).writable ? 1 : 0 },
    ]),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/**
 * Lets the ages of snapshots and of the last backup be scraped.
 *
 * @returns  takes the readers away again
 */
export function observeAges(
  {
    galleries,
    backups,
  }: {
    readonly galleries: Pick<Galleries, "known">;
    readonly backups: Pick<Backups, "isOn" | "list">;
  },
  telemetry: Telemetry,
  clock: Clock,
): () => void {
  const ageOf = (takenAtMs: number) => (clock.now() - takenAtMs) / 1000;
  const stops = [
    telemetry.observe("reid.snapshot.age", () =>
      galleries
        .known()
        .flatMap(({ name, snapshotState: { takenAtMs } }) =>
          takenAtMs === undefined
            ? []
            : [{ value: ageOf(takenAtMs), attributes: { gallery: name } }],
        ),
    ),
    telemetry.observe("reid.backup.age", async () => {
      const last = backups.isOn ? (await backups.list())[0] : undefined;
      return last === undefined ? [] : [{ value: ageOf(last.createdAtMs) }];
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}
