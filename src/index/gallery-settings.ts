import type { Clock } from "#core/clock";
import { idMaker } from "#core/ids";
import type { Log } from "#core/log";

/** What every engine's galleries go by. */
export interface GallerySettings {
  readonly clock: Clock;
  readonly log: Pick<Log, "info" | "warn">;
  /** Filtered searches with fewer survivors compare with every survivor. */
  readonly exactBelow: number;
  /** Entries that may wait for the index before writes slow down. */
  readonly tail: number;
  /** An automatic index is flat below so many entries. */
  readonly flatBelow: number;
  /** Told once, by each server, that a gallery with an automatic index has outgrown it. */
  readonly onOutgrown: (gallery: string) => void;
  /** Told how many entries a write has deleted because their time was over. */
  readonly onExpire: (gallery: string, entries: number) => void;
  /** Makes ids for entries that come without. */
  readonly newEntryId: () => string;
}

/** The same as a caller gives them. Default 20,000 each; nobody told: an index stays as it is; ULIDs. */
export type GallerySettingsGiven = Pick<GallerySettings, "clock" | "log"> &
  Partial<Omit<GallerySettings, "clock" | "log">>;

/** Galleries of a deployment, where nothing is said. */
export const defaultMaxGalleries = 256;

/** api.md section 3: an expired entry is deleted within a minute. */
export const sweepEveryMs = 30_000;

/** The settings, with the defaults of what was left out. */
export function gallerySettings(given: GallerySettingsGiven): GallerySettings {
  const { clock, log } = given;
  return {
    clock,
    log,
    exactBelow: given.exactBelow ?? 20_000,
    tail: given.tail ?? 20_000,
    flatBelow: given.flatBelow ?? 20_000,
    onOutgrown: given.onOutgrown ?? (() => undefined),
    onExpire: given.onExpire ?? (() => undefined),
    newEntryId: given.newEntryId ?? idMaker(clock),
  };
}
