import { randomStream } from "#core/random";
import { float, GraphBuilder, int, ints } from "#onnx/builder";
import type { Model, Tensor } from "#onnx/graph";

/** What every encoder can be told when it is built. */
export interface BuildOptions {
  readonly heightPx: number;
  readonly widthPx: number;
  /** Seed of the initial weights. */
  readonly seed: number;
  /** Output dimensions of a linear layer behind the pooling; 0: none. */
  readonly features: number;
}

/** A value with its channels, on the way through an encoder. */
export interface Channels {
  readonly value: string;
  readonly channels: number;
}

/** Operator set the encoders are written in: the last one whose Reduce operators take axes as attribute. */
const OPSET = 17;

/** Kernel, stride and groups of a convolution. */
export interface ConvSettings {
  readonly kernel: number;
  readonly stride?: number;
  readonly groups?: number;
  readonly bias?: "none" | "zero";
}

/**
 * Writes an encoder layer by layer; weights are named as PyTorch names them (`layer1.0.conv1.weight`), so that files
 * exported from there fit by name. Each weight has a random stream of its own: another layer changes nothing here.
 */
export class Layers {
  readonly #graph: GraphBuilder;
  readonly #options: BuildOptions;

  constructor(name: string, options: BuildOptions) {
    this.#graph = new GraphBuilder(name);
    this.#options = options;
  }

  /** The input, float32 [batch, 3, H, W], normalized. */
  image(): Channels {
    const { heightPx, widthPx } = this.#options;
    const value = this.#graph.input("image", "float32", [
      "batch",
      3,
      heightPx,
      widthPx,
    ]);
    return { value, channels: 3 };
  }

  /** Convolution with padding kernel/2. Weights Kaiming normal, fan out (He et al. 2015, arXiv:1502.01852). */
  conv(
    x: Channels,
    channels: number,
    name: string,
    settings: ConvSettings,
  ): Channels {
    const { kernel, stride = 1, groups = 1, bias = "none" } = settings;
    const dims = [channels, x.channels / groups, kernel, kernel];
    // PyTorch's fan out counts all output channels, whatever the groups.
    const deviation = Math.sqrt(2 / (channels * kernel * kernel));
    const inputs = [x.value, this.#normal(`${name}.weight`, dims, deviation)];
    if (bias === "zero") inputs.push(this.#filled(`${name}.bias`, channels, 0));
    const pad = Math.floor(kernel / 2);
    const value = this.#graph.op(
      "Conv",
      inputs,
      {
        dilations: ints(1, 1),
        group: int(groups),
        kernel_shape: ints(kernel, kernel),
        pads: ints(pad, pad, pad, pad),
        strides: ints(stride, stride),
      },
      name,
    );
    return { value, channels };
  }

  /** Batch norm in inference form: weight 1, bias 0, running mean 0, variance 1; ε 1e-5, 0.9 of the old statistics kept. */
  batchNorm(x: Channels, name: string): Channels {
    const inputs = [
      x.value,
      this.#filled(`${name}.weight`, x.channels, 1),
      this.#filled(`${name}.bias`, x.channels, 0),
      this.#filled(`${name}.running_mean`, x.channels, 0),
      this.#filled(`${name}.running_var`, x.channels, 1),
    ];
    const attributes = { epsilon: float(1e-5), momentum: float(0.9) };
    return {
      ...x,
      value: this.#graph.op("BatchNormalization", inputs, attributes, name),
    };
  }

  /**
   * Instance norm on the first ⌊C/2⌋ channels, batch norm on the rest.
   *
   * Source: Pan et al. 2018, arXiv:1807.09441; names as XingangPan/IBN-Net ibnnet/modules.py, IBN.
   */
  instanceBatchNorm(x: Channels, name: string): Channels {
    const half = Math.floor(x.channels / 2);
    const rest = x.channels - half;
    const [first, second] = this.#graph.node(
      "Split",
      [x.value, this.#graph.ints([half, rest])],
      {
        attributes: { axis: int(1) },
        outputs: 2,
        name: `${name}.split`,
      },
    );
    const instance = this.#graph.op(
      "InstanceNormalization",
      [
        first,
        this.#filled(`${name}.IN.weight`, half, 1),
        this.#filled(`${name}.IN.bias`, half, 0),
      ],
      { epsilon: float(1e-5) },
      `${name}.IN`,
    );
    const batch = this.batchNorm(
      { value: second, channels: rest },
      `${name}.BN`,
    );
    const value = this.#graph.op(
      "Concat",
      [instance, batch.value],
      { axis: int(1) },
      `${name}.concat`,
    );
    return { ...x, value };
  }

  /** max(x, 0). */
  relu(x: Channels, name: string): Channels {
    return { ...x, value: this.#graph.op("Relu", [x.value], {}, name) };
  }

  /** 1 / (1 + e^−x). */
  sigmoid(x: Channels, name: string): Channels {
    return { ...x, value: this.#graph.op("Sigmoid", [x.value], {}, name) };
  }

  /** a + b. */
  add(a: Channels, b: Channels, name: string): Channels {
    return { ...a, value: this.#graph.op("Add", [a.value, b.value], {}, name) };
  }

  /** a · b, b broadcast. */
  multiply(a: Channels, b: Channels, name: string): Channels {
    return { ...a, value: this.#graph.op("Mul", [a.value, b.value], {}, name) };
  }

  /** 3 × 3, stride 2, padding 1. */
  maxPool(x: Channels, name: string): Channels {
    const attributes = {
      kernel_shape: ints(3, 3),
      pads: ints(1, 1, 1, 1),
      strides: ints(2, 2),
    };
    return {
      ...x,
      value: this.#graph.op("MaxPool", [x.value], attributes, name),
    };
  }

  /** 2 × 2, stride 2. */
  averagePool(x: Channels, name: string): Channels {
    const attributes = { kernel_shape: ints(2, 2), strides: ints(2, 2) };
    return {
      ...x,
      value: this.#graph.op("AveragePool", [x.value], attributes, name),
    };
  }

  /** [B, C, H, W] → [B, C, 1, 1]. */
  globalPool(x: Channels, name: string): Channels {
    return {
      ...x,
      value: this.#graph.op("GlobalAveragePool", [x.value], {}, name),
    };
  }

  /** [B, C, 1, 1] → [B, C]. */
  flatten(x: Channels, name: string): Channels {
    return {
      ...x,
      value: this.#graph.op("Flatten", [x.value], { axis: int(1) }, name),
    };
  }

  /** x · Wᵀ + b; weights normal with that deviation, bias 0. */
  linear(
    x: Channels,
    channels: number,
    name: string,
    deviation: number,
  ): Channels {
    const inputs = [
      x.value,
      this.#normal(`${name}.weight`, [channels, x.channels], deviation),
      this.#filled(`${name}.bias`, channels, 0),
    ];
    return {
      value: this.#graph.op("Gemm", inputs, { transB: int(1) }, name),
      channels,
    };
  }

  /**
   * The optional linear layer `feat` behind the pooling. Weights normal σ = 0.001, bias 0.
   *
   * Source: yxgeee/SpCL spcl/models/resnet.py, ResNet.reset_params.
   */
  features(x: Channels): Channels {
    const { features } = this.#options;
    return features === 0 ? x : this.linear(x, features, "feat", 0.001);
  }

  /** Declares `x` [batch, D] as the output `feature` and ends the encoder. */
  finish(x: Channels): Model {
    this.#graph.output(x.value, "float32", ["batch", x.channels], "feature");
    return {
      graph: this.#graph.build(),
      opset: OPSET,
      irVersion: 8,
      metadata: {},
    };
  }

  #normal(name: string, dims: readonly number[], deviation: number): string {
    const stream = randomStream(this.#options.seed, "weights", name);
    const data = new Float32Array(
      dims.reduce((product, dim) => product * dim, 1),
    );
    for (let i = 0; i < data.length; i++) data[i] = deviation * stream.normal();
    return this.#weight(name, { dataType: "float32", dims, data });
  }

  #filled(name: string, length: number, value: number): string {
    const data = new Float32Array(length).fill(value);
    return this.#weight(name, { dataType: "float32", dims: [length], data });
  }

  /** A layer used twice shares its weights: the first use makes them. */
  #weight(name: string, tensor: Tensor): string {
    return this.#graph.has(name) ? name : this.#graph.initializer(name, tensor);
  }
}
