import type { Log } from "#core/log";

import { BindingMissingError } from "./errors.js";
import { ExactIndex } from "./exact.js";
import { FaissIndex, faissMissing } from "./faiss.js";
import { FaissNodeIndex, loadFaissNode, type FaissNode } from "./faiss-node.js";
import type { IndexFactory } from "./gallery-index.js";
import type { VectorIndex } from "./vector-index.js";

/** What may search galleries: FAISS through our addon, FAISS through the package faiss-node, or onnxruntime exactly. */
export const bindings = ["addon", "faiss-node", "exact"] as const;

/** One of {@link bindings}. */
export type BindingName = (typeof bindings)[number];

/** What searches the galleries of this process. */
export interface Binding {
  readonly name: BindingName;
  readonly factory: IndexFactory;
  /** Whether indexes can be saved and loaded; else each start builds them from the store. */
  readonly hasSnapshots: boolean;
}

const openers: Readonly<Record<BindingName, () => Binding>> = {
  addon: () => {
    const missing = faissMissing();
    if (missing !== undefined) throw missing;
    return {
      name: "addon",
      factory: (spec, dimension) => FaissIndex.create(spec, dimension),
      hasSnapshots: true,
    };
  },
  "faiss-node": () => faissNodeBinding(loadFaissNode()),
  exact: () => ({
    name: "exact",
    factory: (spec, dimension) => new ExactIndex(spec, dimension),
    hasSnapshots: false,
  }),
};

/** Galleries searched by faiss-node. */
export function faissNodeBinding(faissNode: FaissNode): Binding {
  return {
    name: "faiss-node",
    factory: (spec, dimension) =>
      new FaissNodeIndex(spec, dimension, faissNode),
    hasSnapshots: false,
  };
}

/** What a binding that is not the addon is like, for people who run servers. */
const said: Readonly<Record<BindingName, string | undefined>> = {
  addon: undefined,
  "faiss-node":
    "galleries are searched by faiss-node: on the main thread, filters exactly by onnxruntime, without snapshots",
  exact:
    "galleries are searched exactly by onnxruntime: slower, on the main thread, without snapshots",
};

/**
 * Opens what searches galleries; says in the log, once, where that is not the addon and why.
 *
 * @param wanted  `auto`: the first of {@link bindings} that this machine has
 * @throws {BindingMissingError} the one that is named is not there
 */
export function openBinding(
  wanted: BindingName | "auto",
  log: Pick<Log, "warn">,
): Binding {
  const missing: string[] = [];
  for (const name of wanted === "auto" ? bindings : [wanted]) {
    try {
      const binding = openers[name]();
      const text = said[name];
      if (text !== undefined) log.warn([text, ...missing].join("; "));
      return binding;
    } catch (error) {
      if (wanted !== "auto" || !(error instanceof BindingMissingError))
        throw error;
      missing.push(error.message);
    }
  }
  throw new BindingMissingError("index.binding", missing.join("; "));
}

/** An index that compares with everything, for work beside galleries: FAISS where the addon is, else onnxruntime. */
export function exactIndex(dimension: number): VectorIndex {
  const spec = { kind: "flat" } as const;
  return faissMissing() === undefined
    ? FaissIndex.create(spec, dimension)
    : new ExactIndex(spec, dimension);
}
