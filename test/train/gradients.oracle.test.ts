import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import * as tf from "@tensorflow/tfjs";

import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import { HybridMemory } from "#memory/hybrid-memory";
import type { Model, Tensor } from "#onnx/graph";
import { writeModel } from "#onnx/model";
import { Layers } from "#train/encoders/layers";
import type { Domain } from "#train/engine";
import { createRunner } from "#train/engines/onnxruntime";
import {
  type Group,
  type Place,
  prepareEncoder,
} from "#train/parameter-layout";
import { iterationGraph, names } from "#train/training-graph";

import { assertClose } from "../support/close.js";

/**
 * Both sides are float32, and τ = 0.05 makes twenty times of a feature's rounding. Allowed is this share of the
 * gradient's largest entry; measured on x86-64: 1.4e-5 at worst.
 */
const GRADIENT_TOLERANCE = 1e-4;
/** Measured: 6e-7. */
const LOSS_TOLERANCE = { rel: 5e-6 };
/** Unit rows; measured: 2.3e-6. */
const FEATURE_TOLERANCE = { abs: 1e-5 };

const CROP = { heightPx: 15, widthPx: 12 } as const;
const FEATURES = 10;
/** Channels of the first block: from 32 on its convolutions are lowered to tiles. */
const WIDTH = 32;
const TEMPERATURE = 0.05;
const EPSILON = 1e-6;

interface OracleCase {
  readonly title: string;
  readonly domainSpecificBatchNorm: boolean;
  /** B of each domain of the batch, in the batch's order. */
  readonly counts: Readonly<Partial<Record<Domain, number>>>;
}

const cases: readonly OracleCase[] = [
  {
    title: "one domain",
    domainSpecificBatchNorm: false,
    counts: { target: 6 },
  },
  {
    title: "one domain, its copy of the batch norms",
    domainSpecificBatchNorm: true,
    counts: { target: 6 },
  },
  {
    title: "two domains, a copy of the batch norms each",
    domainSpecificBatchNorm: true,
    counts: { source: 5, target: 6 },
  },
  {
    title: "two domains that share the batch norms",
    domainSpecificBatchNorm: false,
    counts: { source: 5, target: 6 },
  },
];

describe("gradients of the training graph equal TensorFlow.js's", () => {
  before(async () => {
    tf.enableProdMode();
    await tf.setBackend("cpu");
  });

  for (const oracleCase of cases)
    test(`${oracleCase.title}: loss, features and every parameter`, async () => {
      const batch = new OracleBatch(oracleCase);
      const ours = await batch.fromTrainingGraph();
      const theirs = batch.fromTensorflow();
      assertClose(ours.losses, theirs.losses, LOSS_TOLERANCE);
      assertClose(ours.features, theirs.features, FEATURE_TOLERANCE);
      for (const [name, gradient] of ours.gradients) {
        const expected = theirs.gradients.get(name) ?? new Float32Array();
        const largest = expected.reduce(
          (most, x) => Math.max(most, Math.abs(x)),
          0,
        );
        assert.ok(largest > 1e-3, `${name} has a gradient to compare`);
        assertClose(gradient, expected, { abs: GRADIENT_TOLERANCE * largest });
      }
    });
});

/** What both sides give. */
interface Gradients {
  /** [domains] */
  readonly losses: ArrayLike<number>;
  /** [B, D], the domains one after another. */
  readonly features: ArrayLike<number>;
  /** By `group/initializer`. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** An encoder, a memory and a batch, put to both sides. */
class OracleBatch {
  readonly #case: OracleCase;
  readonly #domains: readonly Domain[];
  readonly #encoder: Model;
  readonly #memory: HybridMemory;
  readonly #images = new Map<Domain, Float32Array>();
  /** Memory row of each crop. */
  readonly #ownRows = new Map<Domain, Int32Array>();
  readonly #layout;
  /** Every trained tensor by `group/initializer`, the copies of the two domains apart. */
  readonly #parameters = new Map<
    string,
    {
      readonly group: Group;
      readonly place: Place;
      readonly data: Float32Array;
    }
  >();

  constructor(oracleCase: OracleCase) {
    this.#case = oracleCase;
    const { counts, domainSpecificBatchNorm } = oracleCase;
    this.#domains = (["source", "target"] as const).filter(
      (domain) => counts[domain] !== undefined,
    );
    const { encoder, layout } = prepareEncoder(smallEncoder(), {
      ...CROP,
      domainSpecificBatchNorm,
      featureBias: "trained",
    });
    this.#encoder = encoder;
    this.#layout = layout;
    for (const [group, { trained }] of layout.groups)
      for (const place of trained) {
        const name = `${group}/${place.name}`;
        const start = encoder.graph.initializers.get(place.name)?.data;
        assert.ok(start instanceof Float32Array);
        // Another start for each domain, so that a mixed up copy shows.
        const stream = randomStream(3, "weights", name);
        const data = start.map((x) => x + 0.1 * stream.normal());
        this.#parameters.set(name, { group, place, data });
      }
    const memory = hybridMemory(counts.source === undefined ? 0 : 4);
    this.#memory = memory;
    for (const domain of this.#domains) {
      const stream = randomStream(3, "crops", domain);
      const count = counts[domain] ?? 0;
      const size = 3 * CROP.heightPx * CROP.widthPx;
      this.#images.set(
        domain,
        Float32Array.from({ length: count * size }, () => stream.normal()),
      );
      const [first, end] =
        domain === "source"
          ? [0, memory.sourceClasses]
          : [memory.sourceClasses, memory.rowCount];
      this.#ownRows.set(
        domain,
        Int32Array.from(
          { length: count },
          () => first + stream.below(end - first),
        ),
      );
    }
  }

  /** The compiled graph of an iteration, through the runtime that trains. */
  async fromTrainingGraph(): Promise<Gradients> {
    const settings = {
      encoder: this.#encoder,
      ...CROP,
      temperature: TEMPERATURE,
      weightDecay: 5e-4,
      adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    };
    const graph = iterationGraph(
      settings,
      this.#layout,
      this.#domains,
      "gradients",
    );
    const runner = await createRunner(writeModel(graph), { threads: 1 });
    try {
      const feeds = this.#feeds();
      const outputs = await runner.run(
        Object.fromEntries(
          runner.inputNames.map((name) => [name, feeds[name]]),
        ),
      );
      const floats = (name: string) => outputs[name].data as Float32Array;
      const gradients = new Map<string, Float32Array>();
      for (const [name, { group, place }] of this.#trained()) {
        const { offset, size } = place;
        const gradient = floats(names.gradient(group));
        gradients.set(name, gradient.subarray(offset, offset + size));
      }
      return {
        losses: floats(names.losses),
        features: floats(names.features),
        gradients,
      };
    } finally {
      await runner.close();
    }
  }

  /** The same written down once more, layer by layer, with the loss in its direct form over all memory rows. */
  fromTensorflow(): Gradients {
    tf.engine().startScope();
    try {
      const trained = this.#trained();
      const start = trained.map(([, { place, data }]) =>
        tf.tensor(data, [...place.dims]),
      );
      const forward = (...values: tf.Tensor[]) => {
        const byName = new Map(trained.map(([name], i) => [name, values[i]]));
        const network = new OracleNetwork(this.#domains, byName);
        const images = this.#domains.map((domain) =>
          tf.transpose(
            tf.tensor4d(this.#images.get(domain) ?? new Float32Array(), [
              this.#case.counts[domain] ?? 0,
              3,
              CROP.heightPx,
              CROP.widthPx,
            ]),
            [0, 2, 3, 1],
          ),
        );
        const features = network
          .features(images)
          .map((x) => tf.div(x, tf.norm(x, 2, 1, true)));
        const losses = features.map((x, i) =>
          this.#loss(x as tf.Tensor2D, this.#domains[i]),
        );
        return { features, losses };
      };
      const { features, losses } = forward(...start);
      const gradients = tf.grads((...values) =>
        forward(...values)
          .losses.reduce((sum, loss) => tf.add(sum, loss))
          .asScalar(),
      )(start);
      return {
        losses: losses.map((loss) => loss.dataSync()[0]),
        features: joined(features).dataSync(),
        gradients: new Map(
          trained.map(([name], i) => [
            name,
            Float32Array.from(gradients[i].dataSync()),
          ]),
        ),
      };
    } finally {
      tf.engine().endScope();
    }
  }

  /**
   *     s_{b,y} = (1/n_y) Σ_{r : label[r] = y} ⟨f_b, m_r⟩ / τ
   *     loss    = −(1/B) Σ_b log(exp(s_{b, own}) / (Σ_y exp(s_{b,y}) + 1e-6) + 1e-6)
   */
  #loss(features: tf.Tensor2D, domain: Domain): tf.Tensor {
    const { rows, rowCount, dimension, labels } = this.#memory;
    const products = tf.matMul(
      features,
      tf.tensor2d(rows, [rowCount, dimension]),
      false,
      true,
    );
    const used = [...new Set(labels)];
    const logits = tf.concat(
      used.map((label) => {
        const members = [...labels.keys()].filter((r) => labels[r] === label);
        return tf.div(
          tf.mean(tf.gather(products, members, 1), 1, true),
          TEMPERATURE,
        );
      }),
      1,
    );
    const own = tf.oneHot(
      [...(this.#ownRows.get(domain) ?? [])].map((row) =>
        used.indexOf(labels[row]),
      ),
      used.length,
    );
    const exps = tf.exp(logits);
    const total = tf.add(tf.sum(exps, 1), EPSILON);
    const probability = tf.div(tf.sum(tf.mul(exps, own), 1), total);
    return tf.neg(tf.mean(tf.log(tf.add(probability, EPSILON))));
  }

  /** The parameters of this batch's domains: a domain that is absent moves nothing. */
  #trained() {
    return [...this.#parameters].filter(
      ([, { group }]) => group === "shared" || this.#domains.includes(group),
    );
  }

  #feeds(): Record<string, Tensor> {
    const { prototypes, prototypeOf, dimension } = this.#memory;
    const feeds: Record<string, Tensor> = {
      [names.prototypes]: {
        dataType: "float32",
        dims: [prototypes.length / dimension, dimension],
        data: prototypes,
      },
    };
    for (const domain of this.#domains) {
      const images = this.#images.get(domain) ?? new Float32Array();
      const ownRows = this.#ownRows.get(domain) ?? new Int32Array();
      feeds[names.images(domain)] = {
        dataType: "float32",
        dims: [ownRows.length, 3, CROP.heightPx, CROP.widthPx],
        data: images,
      };
      feeds[names.prototypeOf(domain)] = {
        dataType: "int32",
        dims: [ownRows.length],
        data: ownRows.map((row) => prototypeOf[row]),
      };
    }
    for (const [group, { trainedSize, statisticsSize }] of this.#layout
      .groups) {
      const weights = new Float32Array(trainedSize);
      for (const { group: owner, place, data } of this.#parameters.values())
        if (owner === group) weights.set(data, place.offset);
      feeds[names.weights(group)] = {
        dataType: "float32",
        dims: [trainedSize],
        data: weights,
      };
      feeds[names.statistics(group)] = {
        dataType: "float32",
        dims: [statisticsSize],
        data: new Float32Array(statisticsSize).fill(1),
      };
    }
    return feeds;
  }
}

/**
 * Stem of stride 2, max pooling, a residual block of stride 1, one of stride 2 whose shortcut is a convolution,
 * global average pooling, linear layer, sigmoid, batch norm. A bias is never before a batch norm, which would leave it no gradient.
 */
function smallEncoder(): Model {
  const layers = new Layers("oracle", { ...CROP, seed: 3, features: 0 });
  const norm = layers.batchNorm.bind(layers);
  const stem = layers.conv(layers.image(), WIDTH, "stem", {
    kernel: 3,
    stride: 2,
  });
  let x = layers.maxPool(layers.relu(norm(stem, "stem_bn"), "relu0"), "pool");
  let y = layers.conv(x, WIDTH, "a1", { kernel: 3, bias: "zero" });
  y = layers.relu(y, "relu1");
  y = norm(layers.conv(y, WIDTH, "a2", { kernel: 3 }), "a2_bn");
  x = layers.relu(layers.add(x, y, "add1"), "relu2");
  y = norm(layers.conv(x, 8, "b1", { kernel: 3, stride: 2 }), "b1_bn");
  const short = layers.conv(x, 8, "b0", { kernel: 1, stride: 2 });
  x = layers.relu(layers.add(norm(short, "b0_bn"), y, "add2"), "relu3");
  x = layers.flatten(layers.globalPool(x, "mean"), "flat");
  x = layers.linear(x, FEATURES, "feat", 1);
  return layers.finish(norm(layers.sigmoid(x, "sigmoid"), "feat_bn"));
}

/** {@link smallEncoder} in TensorFlow.js: NHWC, each domain's crops by themselves but where a batch norm is shared. */
class OracleNetwork {
  readonly #domains: readonly Domain[];
  readonly #parameters: ReadonlyMap<string, tf.Tensor>;

  constructor(
    domains: readonly Domain[],
    parameters: ReadonlyMap<string, tf.Tensor>,
  ) {
    this.#domains = domains;
    this.#parameters = parameters;
  }

  /** @param images  [B, H, W, 3] of each domain @returns [B, D] of each, not yet normalized */
  features(images: readonly tf.Tensor4D[]): tf.Tensor[] {
    const relu = (x: tf.Tensor[]) => x.map((one) => tf.relu(one));
    const add = (a: tf.Tensor[], b: tf.Tensor[]) =>
      a.map((one, i) => tf.add(one, b[i]));
    const stem = relu(
      this.#norm(this.#conv([...images], "stem", 2), "stem_bn"),
    );
    let x: tf.Tensor[] = stem.map((one) =>
      tf.maxPool(one as tf.Tensor4D, 3, 2, 1),
    );
    let y = relu(this.#conv(x, "a1", 1));
    y = this.#norm(this.#conv(y, "a2", 1), "a2_bn");
    x = relu(add(x, y));
    y = this.#norm(this.#conv(x, "b1", 2), "b1_bn");
    x = relu(add(this.#norm(this.#conv(x, "b0", 2), "b0_bn"), y));
    x = x.map((one) =>
      tf.add(
        tf.matMul(
          tf.mean(one, [1, 2]),
          this.#shared("feat.weight"),
          false,
          true,
        ),
        this.#shared("feat.bias"),
      ),
    );
    return this.#norm(
      x.map((one) => tf.sigmoid(one)),
      "feat_bn",
    );
  }

  #conv(x: readonly tf.Tensor[], name: string, stride: number): tf.Tensor[] {
    // [out, in, kH, kW] as ONNX has it to [kH, kW, in, out].
    const weight = tf.transpose(this.#shared(`${name}.weight`), [2, 3, 1, 0]);
    const pad = Math.floor(weight.shape[0] / 2);
    const bias = this.#parameters.get(`shared/${name}.bias`);
    return x.map((one) => {
      const y = tf.conv2d(
        one as tf.Tensor4D,
        weight as tf.Tensor4D,
        stride,
        pad,
      );
      return bias === undefined ? y : tf.add(y, bias);
    });
  }

  /** By the batch's own mean and biased variance, ε 1e-5. */
  #norm(x: readonly tf.Tensor[], name: string): tf.Tensor[] {
    const shared = this.#parameters.get(`shared/${name}.weight`);
    const together = shared === undefined ? x : [joined(x)];
    const normalized = together.map((one, i) => {
      const group = shared === undefined ? this.#domains[i] : "shared";
      const { mean, variance } = tf.moments(
        one,
        [...one.shape.keys()].slice(0, -1),
      );
      const unit = tf.div(tf.sub(one, mean), tf.sqrt(tf.add(variance, 1e-5)));
      const affine = (kind: string) =>
        this.#parameter(`${group}/${name}.${kind}`);
      return tf.add(tf.mul(unit, affine("weight")), affine("bias"));
    });
    if (shared === undefined || x.length === 1) return normalized;
    const counts = x.map((one) => one.shape[0]);
    return tf.split(normalized[0], counts, 0);
  }

  #shared(name: string): tf.Tensor {
    return this.#parameter(`shared/${name}`);
  }

  #parameter(name: string): tf.Tensor {
    const parameter = this.#parameters.get(name);
    assert.ok(parameter, name);
    return parameter;
  }
}

/** [B, …] of each domain as one; TensorFlow.js has no gradient for joining a single tensor. */
function joined(parts: readonly tf.Tensor[]): tf.Tensor {
  return parts.length === 1 ? parts[0] : tf.concat([...parts], 0);
}

/** Unit rows of source classes and target instances; clusters of several, outliers, labels with gaps. */
function hybridMemory(sourceClasses: number): HybridMemory {
  const clusterLabels = [0, 2, 0, 5, 2, 0, 9];
  const rowCount = sourceClasses + clusterLabels.length;
  const stream = randomStream(3, "memory");
  const rows = Float32Array.from({ length: rowCount * FEATURES }, () =>
    stream.normal(),
  );
  normalizeRows(rows, FEATURES);
  const memory = new HybridMemory({
    rows,
    dimension: FEATURES,
    sourceClasses,
    memoryMomentum: 0.2,
  });
  memory.setLabels(
    Int32Array.from({ length: rowCount }, (_, r) =>
      r < sourceClasses ? r : sourceClasses + clusterLabels[r - sourceClasses],
    ),
  );
  return memory;
}
