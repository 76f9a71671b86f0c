/**
 * Bits of the float16 nearest to a number, halves to even.
 *
 * Source: IEEE 754-2008, binary16.
 */
export function toFloat16(value: number): number {
  view.setFloat32(0, value);
  const bits = view.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const fraction = bits & 0x7fffff;
  if (exponent === 0xff) return sign | (fraction === 0 ? 0x7c00 : 0x7e00);
  const scaled = exponent - 127 + 15;
  if (scaled >= 31) return sign | 0x7c00;
  // Below the normal range the hidden bit is shifted in, and the exponent stays 0.
  if (scaled < -10) return sign;
  const shift = scaled > 0 ? 13 : 14 - scaled;
  const whole = scaled > 0 ? (scaled << 23) | fraction : fraction | 0x800000;
  const kept = whole >>> shift;
  const rest = whole & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const isUp = rest > half || (rest === half && (kept & 1) === 1);
  return sign | (kept + (isUp ? 1 : 0));
}

/** The number that float16 bits stand for. */
export function fromFloat16(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const view = new DataView(new ArrayBuffer(4));
