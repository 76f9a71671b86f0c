import type { Dimension } from "./graph.js";

/**
 * Arithmetic on dimensions that may be symbols: sums of products of names, written as `2*batch*width + 3`.
 *
 * What is no polynomial, such as a strided convolution's `floor((height - 1)/2)`, becomes one name of its own.
 * Two dimensions are equal exactly when their texts are.
 */
type Polynomial = ReadonlyMap<string, number>;

/** Splits where a separator stands outside all parentheses. */
function splitOutside(text: string, separator: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")") depth--;
    else if (depth === 0 && text.startsWith(separator, i)) {
      parts.push(text.slice(start, i));
      start = i + separator.length;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

function parse(dimension: Dimension): Polynomial {
  const terms = new Map<string, number>();
  if (typeof dimension === "number") return terms.set("", dimension);
  for (const sum of splitOutside(dimension, " + "))
    splitOutside(sum, " - ").forEach((term, i) => {
      let coefficient = i === 0 ? 1 : -1;
      const names: string[] = [];
      for (const factor of splitOutside(term.trim(), "*"))
        if (/^-?\d+$/.test(factor)) coefficient *= Number(factor);
        else names.push(factor);
      const key = names.sort().join("*");
      terms.set(key, (terms.get(key) ?? 0) + coefficient);
    });
  return terms;
}

function render(polynomial: Polynomial): Dimension {
  const keys = [...polynomial.keys()]
    .filter((key) => polynomial.get(key) !== 0)
    // Names first, the constant last: `batch + 1`.
    .sort((a, b) => (a === "" ? 1 : b === "" ? -1 : a < b ? -1 : 1));
  if (keys.length === 0) return 0;
  if (keys.length === 1 && keys[0] === "") return polynomial.get("") ?? 0;
  let text = "";
  for (const key of keys) {
    const coefficient = polynomial.get(key) ?? 0;
    const size = text === "" ? coefficient : Math.abs(coefficient);
    if (text !== "") text += coefficient < 0 ? " - " : " + ";
    text += key === "" ? size : size === 1 ? key : `${size}*${key}`;
  }
  return text;
}

/** a + b. */
export function addDims(a: Dimension, b: Dimension): Dimension {
  if (typeof a === "number" && typeof b === "number") return a + b;
  const sum = new Map(parse(a));
  for (const [key, coefficient] of parse(b))
    sum.set(key, (sum.get(key) ?? 0) + coefficient);
  return render(sum);
}

/** a · b. */
export function multiplyDims(a: Dimension, b: Dimension): Dimension {
  if (typeof a === "number" && typeof b === "number") return a * b;
  const product = new Map<string, number>();
  for (const [keyA, countA] of parse(a))
    for (const [keyB, countB] of parse(b)) {
      const key = [...keyA.split("*"), ...keyB.split("*")]
        .filter((name) => name !== "")
        .sort()
        .join("*");
      product.set(key, (product.get(key) ?? 0) + countA * countB);
    }
  return render(product);
}

/** a − b. */
export function subtractDims(a: Dimension, b: Dimension): Dimension {
  return addDims(a, multiplyDims(b, -1));
}

/** The product of all; 1 of none. */
export function productOfDims(dims: readonly Dimension[]): Dimension {
  return dims.reduce(multiplyDims, 1);
}

/** a / b where it comes out even as a polynomial divided by one term; else undefined. */
export function divideDimsExactly(
  a: Dimension,
  b: Dimension,
): Dimension | undefined {
  if (b === 0) return undefined;
  if (typeof a === "number" && typeof b === "number")
    return a % b === 0 ? a / b : undefined;
  if (a === b) return 1;
  const divisor = [...parse(b)].filter(([, coefficient]) => coefficient !== 0);
  if (divisor.length !== 1) return undefined;
  const [[divisorKey, divisorCount]] = divisor;
  const quotient = new Map<string, number>();
  for (const [key, coefficient] of parse(a)) {
    const names = key.split("*").filter((name) => name !== "");
    for (const name of divisorKey.split("*").filter((part) => part !== "")) {
      const at = names.indexOf(name);
      if (at < 0) return undefined;
      names.splice(at, 1);
    }
    if (coefficient % divisorCount !== 0) return undefined;
    quotient.set(names.join("*"), coefficient / divisorCount);
  }
  return render(quotient);
}

/** ⌊a / b⌋, symbolic where it must be. */
export function floorDivideDims(a: Dimension, b: Dimension): Dimension {
  if (typeof a === "number" && typeof b === "number") return Math.floor(a / b);
  return divideDimsExactly(a, b) ?? `floor((${a})/(${b}))`;
}

/** ⌈a / b⌉, symbolic where it must be. */
export function ceilDivideDims(a: Dimension, b: Dimension): Dimension {
  if (typeof a === "number" && typeof b === "number") return Math.ceil(a / b);
  return divideDimsExactly(a, b) ?? `ceil((${a})/(${b}))`;
}

/** Whether a dimension, which is at least 0 however it turns out, can equal that number; symbols are taken as ≥ 1. */
export function canEqual(a: Dimension, b: number): boolean {
  if (typeof a === "number") return a === b;
  const terms = [...parse(a)];
  const leastKnown = terms.every(([, coefficient]) => coefficient >= 0);
  const least = terms.reduce((sum, [, coefficient]) => sum + coefficient, 0);
  return !leastKnown || b >= least;
}
