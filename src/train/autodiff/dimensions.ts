import { ShapeError } from "#core/errors";
import type { Dimension } from "#onnx/graph";

/** Whether two shapes are the same, symbol for symbol. */
export function isSameDims(
  a: readonly Dimension[],
  b: readonly Dimension[],
): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/**
 * The shape of an elementwise result (ONNX multidirectional broadcasting).
 *
 * A symbolic dimension against a known one larger than 1 is the known one.
 *
 * @throws {ShapeError} two known sizes differ and neither is 1
 */
export function broadcastDims(
  a: readonly Dimension[],
  b: readonly Dimension[],
): Dimension[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const left = a[i - rank + a.length] ?? 1;
    const right = b[i - rank + b.length] ?? 1;
    if (left === right || right === 1) return left;
    if (left === 1 || typeof left === "string") return right;
    if (typeof right === "string") return left;
    throw new ShapeError("operand", `[${a.join(", ")}]`, `[${b.join(", ")}]`);
  });
}

/** Axes counted from the end (negative) as axes counted from the front, in rising order. */
export function positiveAxes(axes: readonly number[], rank: number): number[] {
  return axes
    .map((axis) => (axis < 0 ? axis + rank : axis))
    .sort((a, b) => a - b);
}

/** One axis, counted from the end where negative, as counted from the front. */
export function positiveAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
