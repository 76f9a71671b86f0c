import { ReidError } from "#core/errors";

/** A query or entry whose feature length is not the one its gallery was made with. */
export class FeatureDimensionError extends ReidError<{
  gallery: string;
  expected: number;
  received: number;
}> {
  readonly code = "FEATURE_DIMENSION";
  readonly kind = "invalid-argument";

  constructor(gallery: string, expected: number, received: number) {
    super(
      `gallery "${gallery}" holds features of ${expected} numbers, this one has ${received}: ` +
        "embed it with the model version that filled the gallery",
      { gallery, expected, received },
    );
  }
}

/** A feature whose L2 norm is off by more than 0.001, the zero vector included. */
export class FeatureNotUnitError extends ReidError<{ norm: number }> {
  readonly code = "FEATURE_NOT_UNIT";
  readonly kind = "invalid-argument";

  constructor(norm: number) {
    super(
      `feature has norm ${norm}, expected 1 within 0.001: divide it by its L2 norm`,
      { norm },
    );
  }
}

/** A feature with NaN or infinity in it. */
export class FeatureNotFiniteError extends ReidError<{ position: number }> {
  readonly code = "FEATURE_NOT_FINITE";
  readonly kind = "invalid-argument";

  constructor(position: number) {
    super(
      `feature is not finite at position ${position}: send finite numbers only`,
      { position },
    );
  }
}

/** No gallery of that name. */
export class GalleryNotFoundError extends ReidError<{ gallery: string }> {
  readonly code = "GALLERY_NOT_FOUND";
  readonly kind = "not-found";

  constructor(gallery: string) {
    super(
      `there is no gallery "${gallery}": create it, or list the galleries for its right name`,
      { gallery },
    );
  }
}

/** A gallery of that name is there already. */
export class GalleryExistsError extends ReidError<{ gallery: string }> {
  readonly code = "GALLERY_EXISTS";
  readonly kind = "already-exists";

  constructor(gallery: string) {
    super(
      `gallery "${gallery}" exists already: use it, or choose another name`,
      { gallery },
    );
  }
}

/** More galleries than the server's limit. */
export class GalleryLimitError extends ReidError<{ maximum: number }> {
  readonly code = "GALLERY_LIMIT";
  readonly kind = "resource-exhausted";

  constructor(maximum: number) {
    super(
      `there are ${maximum} galleries, the most allowed: delete one, or raise limits.galleries`,
      { maximum },
    );
  }
}

/** The gallery holds as many entries as it may. */
export class GalleryFullError extends ReidError<{
  gallery: string;
  maximum: number;
}> {
  readonly code = "GALLERY_FULL";
  readonly kind = "resource-exhausted";

  constructor(gallery: string, maximum: number) {
    super(
      `gallery "${gallery}" holds ${maximum} entries, its most: delete entries, or raise max_entries`,
      { gallery, maximum },
    );
  }
}

/** The gallery is being loaded or restored, or other work on it is under way. */
export class GalleryBusyError extends ReidError<{
  gallery: string;
  state: string;
  operationId: string;
}> {
  readonly code = "GALLERY_BUSY";
  readonly kind = "failed-precondition";

  /** @param operationId  of the work under way; empty: it is no operation */
  constructor(gallery: string, state: string, operationId = "") {
    super(`gallery "${gallery}" is ${state}: try again when it is ready`, {
      gallery,
      state,
      operationId,
    });
  }
}

/** No entry of that id in the gallery. */
export class EntryNotFoundError extends ReidError<{
  gallery: string;
  entryId: string;
}> {
  readonly code = "ENTRY_NOT_FOUND";
  readonly kind = "not-found";

  constructor(gallery: string, entryId: string) {
    super(
      `gallery "${gallery}" has no entry "${entryId}": it was never enrolled, was deleted, or has expired`,
      { gallery, entryId },
    );
  }
}

/** An entry of that id is there and the caller asked to fail then. */
export class EntryExistsError extends ReidError<{
  gallery: string;
  entryId: string;
}> {
  readonly code = "ENTRY_EXISTS";
  readonly kind = "already-exists";

  constructor(gallery: string, entryId: string) {
    super(
      `gallery "${gallery}" holds an entry "${entryId}" already: choose another id, or on_existing REPLACE or KEEP`,
      { gallery, entryId },
    );
  }
}

/** A feature or pin of another model version than the gallery's. */
export class ModelMismatchError extends ReidError<{
  gallery: string;
  expected: string;
  received: string;
}> {
  readonly code = "MODEL_MISMATCH";
  readonly kind = "failed-precondition";

  constructor(gallery: string, expected: string, received: string) {
    super(
      `gallery "${gallery}" is on model ${expected}, this is of ${received}: ` +
        "embed with the gallery's version, or migrate the gallery",
      { gallery, expected, received },
    );
  }
}

/** `min_sequence` beyond the gallery's last write. */
export class SequenceAheadError extends ReidError<{
  gallery: string;
  requested: number;
  last: number;
}> {
  readonly code = "SEQUENCE_AHEAD";
  readonly kind = "failed-precondition";

  constructor(gallery: string, requested: number, last: number) {
    super(
      `gallery "${gallery}" has written up to ${last}, min_sequence is ${requested}: ` +
        "ask the server that gave the number",
      { gallery, requested, last },
    );
  }
}

/** A delete or update whose filter has no condition. */
export class FilterEmptyError extends ReidError<{ gallery: string }> {
  readonly code = "FILTER_EMPTY";
  readonly kind = "invalid-argument";

  constructor(gallery: string) {
    super(
      `the filter has no condition and would hit every entry of "${gallery}": name a condition, or delete the gallery`,
      { gallery },
    );
  }
}

/** A request id that was used for another request. */
export class RequestIdReusedError extends ReidError<{ requestId: string }> {
  readonly code = "REQUEST_ID_REUSED";
  readonly kind = "invalid-argument";

  constructor(requestId: string) {
    super(
      `request id ${requestId} was used for a different request: make a new UUID for each request`,
      { requestId },
    );
  }
}

/** A snapshot whose bytes are not what was written. Costs a rebuild, nothing else. */
export class SnapshotCorruptError extends ReidError<{
  path: string;
  cause: string;
}> {
  readonly code = "SNAPSHOT_CORRUPT";
  readonly kind = "data-loss";

  constructor(path: string, cause: string, options?: ErrorOptions) {
    super(
      `snapshot ${path} is damaged (${cause}): delete it, the index is rebuilt from the store`,
      { path, cause },
      options,
    );
  }
}

/** FAISS cannot be loaded: the addon is not built, or for another Node, or the package is not installed. */
export class BindingMissingError extends ReidError<{
  path: string;
  cause: string;
}> {
  readonly code = "NATIVE_BINDING_MISSING";
  readonly kind = "unavailable";

  constructor(path: string, cause: string, options?: ErrorOptions) {
    super(
      `FAISS cannot be had from ${path} (${cause}): run build/addon.sh, or see index.binding in docs/config.md`,
      { path, cause },
      options,
    );
  }
}

/** FAISS itself refused or failed. */
export class IndexFailedError extends ReidError<{
  operation: string;
  cause: string;
}> {
  readonly code = "INDEX_FAILED";
  readonly kind = "internal";

  constructor(operation: string, cause: string) {
    super(
      `index ${operation} failed (${cause}): rebuild the index with reid index rebuild`,
      { operation, cause },
    );
  }
}

/** An AbortSignal stopped a search that was under way. */
export class SearchCancelledError extends ReidError<{ stage: string }> {
  readonly code = "CANCELLED";
  readonly kind = "cancelled";

  /** @param stage  `sequence`: it waited for the index to have seen a write */
  constructor(stage: "search" | "sequence" = "search") {
    super("search was cancelled by the caller: send it again", { stage });
  }
}

/** `reid index check` found that index and store do not agree. */
export class IndexProblemsError extends ReidError<{ problems: number }> {
  readonly code = "INDEX_PROBLEMS";
  readonly kind = "data-loss";

  constructor(problems: number) {
    super(
      `${problems} problems in the galleries: run reid index rebuild, and restore a backup where the store is wrong`,
      { problems },
    );
  }
}

/** No backup of that id. */
export class BackupNotFoundError extends ReidError<{ backupId: string }> {
  readonly code = "BACKUP_NOT_FOUND";
  readonly kind = "not-found";

  constructor(backupId: string) {
    super(
      `there is no backup "${backupId}": list the backups for its right id`,
      { backupId },
    );
  }
}

/** A backup whose files are not what was written. */
export class BackupCorruptError extends ReidError<{
  backupId: string;
  cause: string;
}> {
  readonly code = "BACKUP_CORRUPT";
  readonly kind = "data-loss";

  constructor(backupId: string, cause: string, options?: ErrorOptions) {
    super(
      `backup "${backupId}" is damaged (${cause}): restore another one, or this one from a second copy`,
      { backupId, cause },
      options,
    );
  }
}

/** No folder for backups was configured. */
export class BackupOffError extends ReidError<Record<string, never>> {
  readonly code = "BACKUP_OFF";
  readonly kind = "failed-precondition";

  constructor() {
    super("this server has no folder for backups: set backup.dir", {});
  }
}

/** A backup whose gallery is on a model version that is another encoder here. */
export class BackupModelError extends ReidError<{
  backupId: string;
  model: string;
}> {
  readonly code = "BACKUP_MODEL";
  readonly kind = "failed-precondition";

  constructor(backupId: string, model: string) {
    super(
      `backup "${backupId}" was made with another encoder under the name ${model} than is here: ` +
        "restore it on a server whose models folder has not used that version",
      { backupId, model },
    );
  }
}

/** A folder that is not what `reid index export` writes. */
export class ExportFormatError extends ReidError<{
  path: string;
  cause: string;
}> {
  readonly code = "EXPORT_FORMAT";
  readonly kind = "invalid-argument";

  constructor(path: string, cause: string, options?: ErrorOptions) {
    super(
      `${path} is no export of a gallery (${cause}): give a folder that reid index export has written`,
      { path, cause },
      options,
    );
  }
}

/** A file that is no Parquet file, or not one of entries. */
export class ParquetFormatError extends ReidError<{
  path: string;
  cause: string;
}> {
  readonly code = "PARQUET_FORMAT";
  readonly kind = "invalid-argument";

  constructor(path: string, cause: string, options?: ErrorOptions) {
    super(
      `${path} is no Parquet file of entries (${cause}): docs/formats.md has its columns, reid index export --format parquet writes it`,
      { path, cause },
      options,
    );
  }
}
