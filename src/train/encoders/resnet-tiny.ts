import type { Model } from "#onnx/graph";
import { type BuildOptions, Layers } from "./layers.js";
import { Block } from "./resnet.js";

/** Widths and strides of the four stages of one basic block each. */
const STAGES = [
  { width: 16, stride: 1 },
  { width: 32, stride: 2 },
  { width: 64, stride: 2 },
  { width: 128, stride: 1 },
] as const;

/** Feature dimension without a linear layer. */
export const RESNET_TINY_DIMENSION = 128;

/**
 * A residual network for 64 × 32 crops that two cores train in a minute: 3 × 3 stride-2 stem, four basic blocks,
 * global average pooling, BatchNorm1d. 306,096 convolution weights and 1,696 batch-norm numbers.
 */
export function buildResNetTiny(options: BuildOptions): Model {
  const layers = new Layers("resnet_tiny", options);
  let x = layers.conv(layers.image(), STAGES[0].width, "conv1", {
    kernel: 3,
    stride: 2,
  });
  x = layers.relu(layers.batchNorm(x, "bn1"), "relu");
  STAGES.forEach(({ width, stride }, stage) => {
    x = new Block(layers, `layer${stage + 1}.0`).basic(x, width, stride);
  });
  x = layers.flatten(layers.globalPool(x, "avgpool"), "flatten");
  return layers.finish(layers.batchNorm(layers.features(x), "feat_bn"));
}
