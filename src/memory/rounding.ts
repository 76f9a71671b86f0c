/**
 * Nearest integer, halves to the even neighbour, as numpy's `around` and Python's `round` have it.
 *
 * `Math.round` takes halves upwards: with 25 clusters 22.5 must give 22, not 23.
 */
export function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
