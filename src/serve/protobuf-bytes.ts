/** One field of a protobuf message whose value has a length: text, bytes or a message. */
export function lengthDelimited(field: number, bytes: Uint8Array): Uint8Array {
  return concat([lengthHeader(field, bytes.length), bytes]);
}

/** What stands before such a value. @param length  of the value, bytes */
export function lengthHeader(field: number, length: number): Uint8Array {
  return concat([varint(field * 8 + 2), varint(length)]);
}

/** A whole number, 0 or more, seven bits a byte. */
export function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

/** The parts one after another, copied. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
