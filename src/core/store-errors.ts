import { ReidError } from "./errors.js";

/** The disk that holds the store has less than the configured free space, or refused a write for want of it. */
export class StoreFullError extends ReidError<{
  folder: string;
  freeBytes: number;
  minFreeBytes: number;
}> {
  readonly code = "STORE_FULL";
  readonly kind = "resource-exhausted";

  constructor(
    folder: string,
    freeBytes: number,
    minFreeBytes: number,
    options?: ErrorOptions,
  ) {
    super(
      `store ${folder} has ${freeBytes} bytes free, a write needs ${minFreeBytes}: ` +
        "free space on that disk, or lower store.min_free_bytes",
      { folder, freeBytes, minFreeBytes },
      options,
    );
  }
}

/** Another process has the data folder open. */
export class StoreLockedError extends ReidError<{
  folder: string;
  holder: string;
}> {
  readonly code = "STORE_LOCKED";
  readonly kind = "failed-precondition";

  constructor(folder: string, holder: string) {
    super(
      `data folder ${folder} is in use by ${holder}: stop it, or choose another folder`,
      { folder, holder },
    );
  }
}

/** The disk that holds the store takes no writes; reads go on. */
export class StoreReadOnlyError extends ReidError<{
  folder: string;
  cause: string;
}> {
  readonly code = "STORE_READ_ONLY";
  readonly kind = "failed-precondition";

  constructor(folder: string, cause: string, options?: ErrorOptions) {
    super(
      `store ${folder} is read-only (${cause}): make the disk writable, writes then go on by themselves`,
      { folder, cause },
      options,
    );
  }
}

/** The store's own file cannot be opened or read. */
export class StoreCorruptError extends ReidError<{
  folder: string;
  cause: string;
}> {
  readonly code = "STORE_CORRUPT";
  readonly kind = "data-loss";

  constructor(folder: string, cause: string, options?: ErrorOptions) {
    super(
      `store ${folder} cannot be read (${cause}): restore the folder from a backup`,
      { folder, cause },
      options,
    );
  }
}
