import { GraphBuilder } from "#onnx/builder";
import { withoutUnused } from "#onnx/folding";
import type { Model, Tensor } from "#onnx/graph";
import { PIXEL_DEVIATION, PIXEL_MEAN } from "./augmentation.js";

/** What training does to a pixel: factor and summand of each channel. */
const TRAINING = {
  factor: PIXEL_DEVIATION.map((std) => 1 / 255 / std),
  summand: PIXEL_DEVIATION.map((std, i) => -PIXEL_MEAN[i] / std),
};

/** Relative difference below which two preprocessings are the same: float32's rounding. */
const SAME_WITHIN = 1e-6;

/**
 * The encoder within a bundle, as training takes one: what `serveableEncoder` added is taken off again.
 *
 * A bundle that was imported with another mean, deviation or scale than training has gets the difference as one
 * factor and one summand a channel in front; they are Constant nodes, no weights.
 *
 * @returns the encoder, float32 [batch, 3, H, W] to [batch, D], or undefined where the model is no bundle's
 */
export function encoderWithinBundle(model: Model): Model | undefined {
  const { graph } = model;
  const normalized = graph.nodes.find(
    ({ name }) => name === "preprocess.normalized",
  );
  const unit = graph.nodes.find(({ name }) => name === "l2.unit");
  const factor = channelsOf(graph.initializers.get("preprocess.factor"));
  const summand = channelsOf(graph.initializers.get("preprocess.summand"));
  const [image] = graph.inputs;
  if (!normalized || !unit || !factor || !summand || image?.dims.length !== 4)
    return undefined;
  const [batch, height, width] = image.dims;
  const [start, feature] = [normalized.outputs[0], unit.inputs[0]];
  const ratio = factor.map((f, i) => f / TRAINING.factor[i]);
  const shift = summand.map((s, i) => s - TRAINING.summand[i] * ratio[i]);
  const isSame =
    ratio.every((r) => Math.abs(r - 1) <= SAME_WITHIN) &&
    shift.every((s) => Math.abs(s) <= SAME_WITHIN);

  const builder = new GraphBuilder(graph.name);
  const input = builder.input(isSame ? start : "image", "float32", [
    batch,
    3,
    height,
    width,
  ]);
  for (const [name, tensor] of graph.initializers)
    builder.initializer(name, tensor);
  if (!isSame) {
    const scaled = builder.op(
      "Mul",
      [input, constant(builder, ratio)],
      {},
      "renormalize.scaled",
    );
    builder.node("Add", [scaled, constant(builder, shift)], {
      outputs: [start],
      name: "renormalize",
    });
  }
  for (const {
    opType,
    inputs,
    outputs,
    attributes,
    domain,
    name,
  } of graph.nodes)
    if (!name.startsWith("preprocess.") && !name.startsWith("l2."))
      builder.node(opType, inputs, { outputs, attributes, domain, name });
  const [, dimension] = graph.outputs[0].dims;
  builder.output(feature, "float32", ["batch", dimension]);
  return { ...model, graph: withoutUnused(builder.build()) };
}

/** Three numbers of a [1, 3, 1, 1] tensor. */
function channelsOf(tensor: Tensor | undefined): readonly number[] | undefined {
  return tensor?.data.length === 3
    ? Array.from(tensor.data, Number)
    : undefined;
}

function constant(builder: GraphBuilder, values: readonly number[]): string {
  const value: Tensor = {
    dataType: "float32",
    dims: [1, 3, 1, 1],
    data: Float32Array.from(values),
  };
  return builder.op(
    "Constant",
    [],
    { value: { type: "tensor", value } },
    "renormalize.constant",
  );
}
