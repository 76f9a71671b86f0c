import type { ForgottenRow } from "./forgetting.js";
import type { Gallery as EmbeddedGallery } from "./gallery.js";
import type { RestoreOptions } from "./gallery-restore.js";
import type { GalleryStore } from "./gallery-store.js";
import type {
  GalleryDescription,
  GallerySpec,
  InTransaction,
} from "./gallery-types.js";
import type { Store } from "#core/store";
import type { RequestLog } from "./request-log.js";

/** What a server asks of a gallery, whichever engine holds it; each method's contract is the embedded one's. */
export type Gallery = Pick<
  EmbeddedGallery,
  | "name"
  | "describe"
  | "enroll"
  | "search"
  | "getEntry"
  | "listEntries"
  | "listIdentities"
  | "updateEntries"
  | "deleteEntries"
  | "snapshot"
  | "snapshotState"
  | "wantedIndex"
  | "update"
  | "keepIndex"
  | "rebuild"
> & {
  /** The entries of an identity, by which the memory finds its rows. */
  rowsOf(
    identity: string,
  ): readonly ForgottenRow[] | Promise<readonly ForgottenRow[]>;
};

/** What a server asks of its galleries, whichever engines hold them; each method's contract is `GalleryStore`'s. */
export interface Galleries extends Pick<
  GalleryStore,
  "delete" | "forget" | "sweep" | "close"
> {
  readonly requests: RequestLog;
  create(
    spec: GallerySpec,
    inTransaction?: InTransaction<GalleryDescription>,
  ): Promise<Gallery>;
  restore(
    copy: Store,
    plan: ReadonlyMap<string, string>,
    options: RestoreOptions,
  ): Promise<readonly Gallery[]>;
  get(name: string): Promise<Gallery>;
  list(): Promise<readonly Gallery[]>;
  known(): readonly Gallery[];
  /** Whether what holds them answers: where it does not every call on them fails. */
  answers(): Promise<boolean>;
}
