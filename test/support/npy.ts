/** A .npy file as numpy writes it: numpy numpy/lib/format.py. */
export function npyFile(
  type: string,
  shape: readonly number[],
  content: Uint8Array,
  format: 1 | 2 = 1,
): Buffer {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const before = format === 1 ? 10 : 12;
  const header = text.padEnd(
    Math.ceil((before + text.length + 1) / 64) * 64 - before - 1,
  );
  const length = Buffer.alloc(format === 1 ? 2 : 4);
  if (format === 1) length.writeUInt16LE(header.length + 1);
  else length.writeUInt32LE(header.length + 1);
  return Buffer.concat([
    Buffer.from(`\x93NUMPY${String.fromCharCode(format)}\x00`, "latin1"),
    length,
    Buffer.from(`${header}\n`, "latin1"),
    content,
  ]);
}
