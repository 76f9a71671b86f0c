// Values of the store's tables as bytes: what they say, and behind it a checksum that a damaged one does not have.
import { crc32 } from "node:zlib";

import { Packr } from "msgpackr";

import type { StoreKey } from "./store-keys.js";

/** How a table's values are encoded: raw bytes, or MessagePack of plain data (typed arrays and bytes included). */
export type ValueEncoding = "bytes" | "data";

/** The table that says of what format the store is. */
export const labelTable = "format";

/** Bytes of the checksum behind each value of a table. Labels have none: versions that know of none read them too. */
export function sealBytesOf(table: string): number {
  return table === labelTable ? 0 : 4;
}

// Bytes within a value are copied out of the memory that it was read from.
const packr = new Packr({ copyBuffers: true });

/** A value's bytes, without a checksum; may be a view into memory that is used again. */
export function encodeValue(
  encoding: ValueEncoding,
  value: unknown,
): Uint8Array {
  return encoding === "bytes" ? (value as Uint8Array) : packr.pack(value);
}

/** The value of such bytes. @throws where they are none */
export function decodeValue(
  encoding: ValueEncoding,
  bytes: Uint8Array,
): unknown {
  return encoding === "bytes" ? bytes : packr.unpack(bytes);
}

/** Writes a value's checksum behind it, if its table has any. @param sealed  the value, and room for the checksum */
export function seal(table: string, key: StoreKey, sealed: Buffer): void {
  if (sealBytesOf(table) === 0) return;
  const end = sealed.length - sealBytesOf(table);
  sealed.writeUInt32LE(checksumOf(key, sealed.subarray(0, end)), end);
}

/** The value in front of its checksum, a view. @returns undefined: value, key or checksum are not what was written */
export function unseal(
  table: string,
  key: StoreKey,
  sealed: Buffer,
): Buffer | undefined {
  if (sealBytesOf(table) === 0) return sealed;
  const end = sealed.length - sealBytesOf(table);
  if (end < 0) return undefined;
  const value = sealed.subarray(0, end);
  return checksumOf(key, value) === sealed.readUInt32LE(end)
    ? value
    : undefined;
}

/** CRC-32 of a key and its value: one that lies under another key is as wrong as one that was changed. */
function checksumOf(key: StoreKey, value: Uint8Array): number {
  return crc32(value, crc32(String(key)));
}
