import { createHash } from "node:crypto";

/** Between what the checksum is of and its digits; the closing of the object follows them. */
const before = ',\n  "checksum": "';
const behind = '"\n}\n';

/** What a text says of itself: that it is what was written, that it is not, or nothing. */
export type Seal = "whole" | "broken" | "none";

/**
 * Lays a description out as JSON, two spaces of indentation, with a checksum of it as the last field, `checksum`:
 * SHA-256, hexadecimal, of all bytes before the comma in front of that field.
 *
 * @param description  an object of one field at least
 */
export function sealedJson(description: object): string {
  const body = JSON.stringify(description, undefined, 2).slice(
    0,
    -"\n}".length,
  );
  return body + before + digestOf(body) + behind;
}

/**
 * Whether a text that `sealedJson` wrote is as it was written.
 *
 * A text without a checksum may be older than checksums are: its reader knows by the format's version.
 */
export function sealOf(text: string): Seal {
  const end = text.lastIndexOf(before);
  if (end < 0) return "none";
  const body = text.slice(0, end);
  return text === body + before + digestOf(body) + behind ? "whole" : "broken";
}

/**
 * Whether what a text with such a seal says of itself can be believed.
 *
 * @param version       of its format, as it says
 * @param sealedVersion the format whose texts have a checksum; those of another may have none
 */
export function isAsWritten(
  seal: Seal,
  version: unknown,
  sealedVersion: number,
): boolean {
  return seal === "whole" || (seal === "none" && version !== sealedVersion);
}

function digestOf(body: string): string {
  return createHash("sha256").update(body).digest("hex");
}
