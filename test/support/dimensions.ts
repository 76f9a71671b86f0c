import assert from "node:assert/strict";
import type { Dimension } from "#onnx/graph";

/** Dimensions as numbers, with a number for each symbol; floor and ceil as shape inference writes them. */
export function evaluateDims(
  dims: readonly Dimension[],
  symbols: Readonly<Record<string, number>>,
): number[] {
  return dims.map((dim) => {
    if (typeof dim === "number") return dim;
    const text = dim
      .replace(/\b(floor|ceil)\b/g, "Math.$1")
      .replace(/(?<![.\w])[a-zA-Z_]\w*/g, (name) =>
        name === "Math"
          ? name
          : String(symbols[name] ?? assert.fail(`symbol ${name} in "${dim}"`)),
      );
    return Number(new Function(`return ${text}`)());
  });
}
