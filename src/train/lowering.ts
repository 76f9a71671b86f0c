import { GraphBuilder } from "#onnx/builder";
import { withoutUnused } from "#onnx/folding";
import { withoutOutputCopies, withoutRepeats } from "#onnx/repeats";
import type { Graph, Node, ValueInfo } from "#onnx/graph";
import { GRADIENT_DOMAIN } from "./autodiff/convolution.js";
import { GradientBuilder } from "./autodiff/gradient-builder.js";
import {
  batchNormalizationLowerings,
  type LoweredBatchNormalization,
} from "./lowering/batch-normalization.js";
import {
  convolutionLowerings,
  smallConvolution,
  type LoweredConvolution,
} from "./lowering/convolution.js";
import type { Lowering } from "./lowering/lowering-rule.js";

/** Operators of domain `reid.gradient`: names for what has several spellings in ONNX, some much faster than others. */
export type LoweredOp = LoweredConvolution | LoweredBatchNormalization;

/** How each is spelled; chosen by profile on onnxruntime's CPU provider, see the rows. */
export const lowerings: Readonly<Record<LoweredOp, Lowering>> = {
  ...convolutionLowerings,
  ...batchNormalizationLowerings,
};

/**
 * Spells out every operator of domain `reid.gradient` in operators that onnxruntime has, and drops what no
 * output needs.
 *
 * @param values  what is known of every value of the graph
 */
export function lower(
  graph: Graph,
  opset: number,
  values: ReadonlyMap<string, ValueInfo>,
): Graph {
  const pruned = withoutUnused(graph);
  const builder = GraphBuilder.extending({ ...pruned, nodes: [], outputs: [] });
  const g = new GradientBuilder(builder, opset, "lowered");
  const renamed = new Map<string, string>();
  const present = (name: string): string => renamed.get(name) ?? name;
  const used = new Set(
    pruned.nodes
      .flatMap((node) => node.inputs)
      .concat(pruned.outputs.map(({ name }) => name)),
  );
  for (const written of pruned.nodes) {
    const node = smallConvolution(written, values) ?? written;
    const inputs = node.inputs.map(present);
    if (node.domain !== GRADIENT_DOMAIN) {
      copyNode(builder, { ...node, inputs });
      continue;
    }
    const known = node.inputs.map((input, i) => ({
      ...valueOf(values, input),
      name: inputs[i],
    }));
    const outputs = node.outputs.map((output) => valueOf(values, output));
    const isUsed = node.outputs.map((output) => used.has(output));
    const results = loweringOf(node)(
      { node, inputs: known, outputs, isUsed },
      g,
    );
    node.outputs.forEach((output, i) => {
      const result = results[i];
      if (result !== undefined) renamed.set(output, result.name);
    });
  }
  for (const { name, dataType, dims } of pruned.outputs)
    builder.output(present(name), dataType, dims, name);
  return withoutUnused(withoutOutputCopies(withoutRepeats(builder.build())));
}

function copyNode(
  builder: GraphBuilder,
  { opType, inputs, outputs, attributes, domain, name }: Node,
): void {
  builder.node(opType, inputs, { attributes, outputs, domain, name });
}

function loweringOf(node: Node): Lowering {
  return lowerings[node.opType as LoweredOp];
}

function valueOf(
  values: ReadonlyMap<string, ValueInfo>,
  name: string,
): ValueInfo {
  return values.get(name) ?? { name, dataType: "float32", dims: [] };
}
