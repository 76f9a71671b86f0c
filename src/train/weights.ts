import type { Model, Tensor } from "#onnx/graph";
import { WeightsUnmatchedError } from "./errors.js";

/** What of a weights file was used, and what not. */
export interface WeightReport {
  /** Weights of the encoder that were taken from the file, by the encoder's names. */
  readonly matched: readonly string[];
  /** Weights of the encoder that the file has not, and that stay as they were. */
  readonly missing: readonly string[];
  /** The name fits and the shape does not; these stay as they were, too. */
  readonly reshaped: readonly {
    readonly name: string;
    readonly expected: readonly number[];
    readonly received: readonly number[];
  }[];
  /** Weights of the file that nothing asked for, by the file's names. */
  readonly unused: readonly string[];
}

/**
 * Takes initial weights from another model by name and shape.
 *
 * Exporters put prefixes before PyTorch's names (`module.`, `m.`, `backbone.`): the one prefix that makes most names
 * fit, in the file or in the encoder, is left out.
 *
 * @param encoder  not changed; tensors are shared with the result
 * @param source   the model in the weights file
 * @throws {WeightsUnmatchedError} nothing fits
 */
export function takeWeights(
  encoder: Model,
  source: Model,
): { readonly model: Model; readonly report: WeightReport } {
  const wanted = floatTensors(encoder);
  const offered = floatTensors(source);
  const { own, other } = bestPrefix(wanted, offered);
  const initializers = new Map(encoder.graph.initializers);
  const matched: string[] = [];
  const missing: string[] = [];
  const reshaped: {
    name: string;
    expected: readonly number[];
    received: readonly number[];
  }[] = [];
  const used = new Set<string>();
  for (const [name, tensor] of wanted) {
    const sourceName =
      other + name.slice(name.startsWith(own) ? own.length : 0);
    const found = offered.get(sourceName);
    if (found === undefined) {
      missing.push(name);
      continue;
    }
    used.add(sourceName);
    if (isSameShape(tensor, found)) {
      matched.push(name);
      initializers.set(name, found);
    } else reshaped.push({ name, expected: tensor.dims, received: found.dims });
  }
  if (matched.length === 0)
    throw new WeightsUnmatchedError([...offered.keys()], [...wanted.keys()]);
  const unused = [...offered.keys()].filter((name) => !used.has(name));
  return {
    model: { ...encoder, graph: { ...encoder.graph, initializers } },
    report: { matched, missing, reshaped, unused },
  };
}

function floatTensors({ graph }: Model): ReadonlyMap<string, Tensor> {
  return new Map(
    [...graph.initializers].filter(
      ([, { dataType, dims }]) => dataType === "float32" && dims.length > 0,
    ),
  );
}

const isSameShape = (a: Tensor, b: Tensor): boolean =>
  a.dims.length === b.dims.length &&
  a.dims.every((dim, i) => dim === b.dims[i]);

/** The prefix to take off the encoder's names and the one to put before them, by the number of weights that then fit. */
function bestPrefix(
  wanted: ReadonlyMap<string, Tensor>,
  offered: ReadonlyMap<string, Tensor>,
): { readonly own: string; readonly other: string } {
  const counts = new Map<string, number>([["|", 0]]);
  const offeredBySuffix = bySuffix(offered);
  for (const [name, tensor] of wanted)
    for (const own of prefixesOf(name))
      for (const candidate of offeredBySuffix.get(name.slice(own.length)) ??
        []) {
        const other = candidate.slice(
          0,
          candidate.length - name.length + own.length,
        );
        // A prefix on both sides would only compare tails of names.
        if (own !== "" && other !== "") continue;
        const found = offered.get(candidate);
        if (found === undefined || !isSameShape(tensor, found)) continue;
        const key = `${own}|${other}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
  // Shorter prefixes first where counts are equal, so that exact names win.
  const [[best]] = [...counts].sort(
    ([a, countA], [b, countB]) =>
      countB - countA || a.length - b.length || (a < b ? -1 : 1),
  );
  const [own, other] = best.split("|");
  return { own, other };
}

/** `""`, `"a."`, `"a.b."` of `a.b.weight`. */
function prefixesOf(name: string): string[] {
  const prefixes = [""];
  for (let i = name.indexOf("."); i >= 0; i = name.indexOf(".", i + 1))
    prefixes.push(name.slice(0, i + 1));
  return prefixes;
}

function bySuffix(tensors: ReadonlyMap<string, Tensor>): Map<string, string[]> {
  const names = new Map<string, string[]>();
  for (const name of tensors.keys())
    for (const prefix of prefixesOf(name)) {
      const suffix = name.slice(prefix.length);
      names.set(suffix, [...(names.get(suffix) ?? []), name]);
    }
  return names;
}
