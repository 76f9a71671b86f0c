import type { Model } from "#onnx/graph";
import { type BuildOptions, type Channels, Layers } from "./layers.js";

/** Channels of the stem and the three stages. */
export interface OsNetPlan {
  readonly name: string;
  readonly channels: readonly [number, number, number, number];
}

/** Feature dimension, whatever the width. */
export const OSNET_DIMENSION = 512;

/**
 * OSNet: blocks of four streams of growing depth, joined by one shared channel gate; linear layer to 512, BatchNorm1d
 * and ReLU behind the pooling.
 *
 * Source: Zhou et al. 2019, arXiv:1905.00953; layers and names as KaiyangZhou/deep-person-reid
 * torchreid/models/osnet.py.
 */
export function buildOsNet(plan: OsNetPlan, options: BuildOptions): Model {
  const layers = new Layers(plan.name, options);
  const net = new OsNet(layers);
  let x = net.convBnRelu(layers.image(), plan.channels[0], "conv1", {
    kernel: 7,
    stride: 2,
  });
  x = layers.maxPool(x, "maxpool");
  for (const stage of [1, 2, 3]) {
    const [width, name] = [plan.channels[stage], `conv${stage + 1}`];
    for (const i of [0, 1]) x = net.block(x, width, `${name}.${i}`);
    if (stage === 3) continue;
    x = net.convBnRelu(x, width, `${name}.2.0`, { kernel: 1 });
    x = layers.averagePool(x, `${name}.2.1`);
  }
  x = net.convBnRelu(x, plan.channels[3], "conv5", { kernel: 1 });
  x = layers.flatten(layers.globalPool(x, "global_avgpool"), "flatten");
  // Deviation 0.01 as torchreid's OSNet._init_params.
  x = layers.batchNorm(layers.linear(x, OSNET_DIMENSION, "fc.0", 0.01), "fc.1");
  x = layers.relu(x, "fc.2");
  if (options.features > 0) x = layers.batchNorm(layers.features(x), "feat_bn");
  return layers.finish(x);
}

class OsNet {
  readonly #layers: Layers;

  constructor(layers: Layers) {
    this.#layers = layers;
  }

  convBnRelu(
    x: Channels,
    channels: number,
    name: string,
    settings: { readonly kernel: number; readonly stride?: number },
  ): Channels {
    const y = this.#layers.conv(x, channels, `${name}.conv`, settings);
    return this.#layers.relu(
      this.#layers.batchNorm(y, `${name}.bn`),
      `${name}.relu`,
    );
  }

  block(x: Channels, channels: number, name: string): Channels {
    const layers = this.#layers;
    const inner = channels / 4;
    const stem = this.convBnRelu(x, inner, `${name}.conv1`, { kernel: 1 });
    const streams = ["conv2a", "conv2b", "conv2c", "conv2d"].map(
      (stream, depth) => {
        let y = stem;
        for (let i = 0; i <= depth; i++)
          y = this.#lightConv(
            y,
            depth === 0 ? `${name}.${stream}` : `${name}.${stream}.${i}`,
          );
        return this.#gate(y, `${name}.gate`);
      },
    );
    const sum = streams.reduce((a, b) => layers.add(a, b, `${name}.add`));
    const y = this.#linearConv(sum, channels, `${name}.conv3`);
    const shortcut =
      x.channels === channels
        ? x
        : this.#linearConv(x, channels, `${name}.downsample`);
    return layers.relu(layers.add(y, shortcut, `${name}.add`), `${name}.relu`);
  }

  #linearConv(x: Channels, channels: number, name: string): Channels {
    return this.#layers.batchNorm(
      this.#layers.conv(x, channels, `${name}.conv`, { kernel: 1 }),
      `${name}.bn`,
    );
  }

  /** 1 × 1 without activation, then 3 × 3 channel by channel. */
  #lightConv(x: Channels, name: string): Channels {
    const layers = this.#layers;
    let y = layers.conv(x, x.channels, `${name}.conv1`, { kernel: 1 });
    y = layers.conv(y, x.channels, `${name}.conv2`, {
      kernel: 3,
      groups: x.channels,
    });
    return layers.relu(layers.batchNorm(y, `${name}.bn`), `${name}.relu`);
  }

  /** x times a gate for each channel; all four streams of a block share its weights. */
  #gate(x: Channels, name: string): Channels {
    const layers = this.#layers;
    let gate = layers.globalPool(x, `${name}.global_avgpool`);
    gate = layers.conv(gate, Math.floor(x.channels / 16), `${name}.fc1`, {
      kernel: 1,
      bias: "zero",
    });
    gate = layers.relu(gate, `${name}.relu`);
    gate = layers.conv(gate, x.channels, `${name}.fc2`, {
      kernel: 1,
      bias: "zero",
    });
    return layers.multiply(
      x,
      layers.sigmoid(gate, `${name}.gate_activation`),
      `${name}.mul`,
    );
  }
}
