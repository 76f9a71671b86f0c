import type { Node, ValueInfo } from "#onnx/graph";
import type { GradientBuilder } from "../autodiff/gradient-builder.js";

/** A node that is to be spelled out. */
export interface LoweredNode {
  readonly node: Node;
  readonly inputs: readonly ValueInfo[];
  /** With their shapes; the names are replaced by those of what is written. */
  readonly outputs: readonly ValueInfo[];
  /** Which outputs somebody reads. */
  readonly isUsed: readonly boolean[];
}

/** Writes the nodes that stand for one, and returns its outputs; `undefined` for one nobody reads. */
export type Lowering = (
  lowered: LoweredNode,
  g: GradientBuilder,
) => readonly (ValueInfo | undefined)[];
