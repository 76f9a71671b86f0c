import { ReidError } from "./errors.js";

/** Something on the disk that a later version of this program has written. */
export class FormatNewerError extends ReidError<{
  path: string;
  format: number;
  known: number;
}> {
  readonly code = "FORMAT_NEWER";
  readonly kind = "failed-precondition";

  /** @param known  the newest format that can be read */
  constructor(path: string, format: number, known: number) {
    super(
      `${path} is of format ${format}, this version reads formats up to ${known}: ` +
        "use the version that wrote it, or a later one",
      { path, format, known },
    );
  }
}

/**
 * Refuses what says to be of a later format, before anything else of it is looked at.
 *
 * @param format  what it says; anything but a number is left to who reads on
 * @throws {FormatNewerError}
 */
export function refuseNewer(
  path: string,
  format: unknown,
  known: number,
): void {
  if (typeof format === "number" && format > known)
    throw new FormatNewerError(path, format, known);
}
