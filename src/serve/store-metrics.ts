import type { Store } from "#core/store";
import type { Telemetry } from "#core/telemetry";

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
