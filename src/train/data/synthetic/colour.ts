/** Red, green and blue, 0 … 255. */
export type Rgb = readonly [number, number, number];

/** The colour times a factor, kept in range: above 1 lighter, below 1 darker. */
export function scaled([r, g, b]: Rgb, factor: number): Rgb {
  return [
    Math.min(255, r * factor),
    Math.min(255, g * factor),
    Math.min(255, b * factor),
  ];
}

/** A colour between two: `share` 0 is the first, 1 the second. */
export function mixed(a: Rgb, b: Rgb, share: number): Rgb {
  return [
    a[0] + (b[0] - a[0]) * share,
    a[1] + (b[1] - a[1]) * share,
    a[2] + (b[2] - a[2]) * share,
  ];
}

/** As CSS writes it. */
export function css([r, g, b]: Rgb, alpha = 1): string {
  return `rgba(${Math.round(r)},${Math.round(g)},${Math.round(b)},${alpha})`;
}

/** Perceived brightness, 0 … 255 (Rec. 601 weights). */
export function brightness([r, g, b]: Rgb): number {
  return 0.299 * r + 0.587 * g + 0.114 * b;
}
