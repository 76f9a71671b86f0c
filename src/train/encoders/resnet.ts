import type { Model } from "#onnx/graph";
import { type BuildOptions, type Channels, Layers } from "./layers.js";

/** What tells one residual network from another. */
export interface ResNetPlan {
  readonly name: string;
  /** `basic`: two 3 × 3 convolutions; `bottleneck`: 1 × 1, 3 × 3, 1 × 1 to four times the width. */
  readonly block: "basic" | "bottleneck";
  /** Blocks of each stage. */
  readonly blocks: readonly [number, number, number, number];
  /** IBN-a: the first normalization of each block of stages 1 to 3 is half instance norm. */
  readonly normalization: "batch" | "ibn-a";
}

/** Width of a bottleneck's output over its inner width. */
const EXPANSION = 4;

/** Feature dimension without a linear layer. */
export function resNetDimension({ block }: ResNetPlan): number {
  return block === "basic" ? 512 : 512 * EXPANSION;
}

/**
 * ResNet with stride 1 in the last stage, global average pooling, an optional linear layer and BatchNorm1d.
 *
 * Source: He et al. 2016, arXiv:1512.03385; names and strides as torchvision/models/resnet.py; the last stage's stride
 * and the head as yxgeee/SpCL spcl/models/resnet.py and resnet_ibn.py.
 */
export function buildResNet(plan: ResNetPlan, options: BuildOptions): Model {
  const layers = new Layers(plan.name, options);
  let x = layers.conv(layers.image(), 64, "conv1", { kernel: 7, stride: 2 });
  x = layers.relu(layers.batchNorm(x, "bn1"), "relu");
  x = layers.maxPool(x, "maxpool");
  plan.blocks.forEach((count, stage) => {
    const width = 64 * 2 ** stage;
    for (let i = 0; i < count; i++) {
      // Stage 1 keeps the size, and so does the last one: a map twice as high and wide for the pooling.
      const stride = i === 0 && (stage === 1 || stage === 2) ? 2 : 1;
      const block = new Block(
        layers,
        `layer${stage + 1}.${i}`,
        plan.normalization === "ibn-a" && stage < 3,
      );
      x =
        plan.block === "basic"
          ? block.basic(x, width, stride)
          : block.bottleneck(x, width, stride);
    }
  });
  x = layers.flatten(layers.globalPool(x, "avgpool"), "flatten");
  return layers.finish(layers.batchNorm(layers.features(x), "feat_bn"));
}

/** A residual block: its layers, and the shortcut around them. */
export class Block {
  readonly #layers: Layers;
  readonly #name: string;
  readonly #ibn: boolean;

  constructor(layers: Layers, name: string, ibn = false) {
    this.#layers = layers;
    this.#name = name;
    this.#ibn = ibn;
  }

  basic(x: Channels, width: number, stride: number): Channels {
    const { conv, batchNorm, relu } = this.#bound();
    let y = relu(
      this.#first(conv(x, width, "conv1", { kernel: 3, stride })),
      "relu1",
    );
    y = batchNorm(conv(y, width, "conv2", { kernel: 3 }), "bn2");
    return this.#join(x, y, stride);
  }

  bottleneck(x: Channels, width: number, stride: number): Channels {
    const { conv, batchNorm, relu } = this.#bound();
    let y = relu(this.#first(conv(x, width, "conv1", { kernel: 1 })), "relu1");
    y = relu(
      batchNorm(conv(y, width, "conv2", { kernel: 3, stride }), "bn2"),
      "relu2",
    );
    y = batchNorm(conv(y, width * EXPANSION, "conv3", { kernel: 1 }), "bn3");
    return this.#join(x, y, stride);
  }

  #first(x: Channels): Channels {
    const name = `${this.#name}.bn1`;
    return this.#ibn
      ? this.#layers.instanceBatchNorm(x, name)
      : this.#layers.batchNorm(x, name);
  }

  #join(x: Channels, y: Channels, stride: number): Channels {
    const { conv, batchNorm, relu } = this.#bound();
    const plain = stride === 1 && x.channels === y.channels;
    const shortcut = plain
      ? x
      : batchNorm(
          conv(x, y.channels, "downsample.0", { kernel: 1, stride }),
          "downsample.1",
        );
    return relu(this.#layers.add(y, shortcut, `${this.#name}.add`), "relu");
  }

  #bound() {
    const at = (name: string) => `${this.#name}.${name}`;
    return {
      conv: (
        x: Channels,
        channels: number,
        name: string,
        settings: Parameters<Layers["conv"]>[3],
      ) => this.#layers.conv(x, channels, at(name), settings),
      batchNorm: (x: Channels, name: string) =>
        this.#layers.batchNorm(x, at(name)),
      relu: (x: Channels, name: string) => this.#layers.relu(x, at(name)),
    };
  }
}
