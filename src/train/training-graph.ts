import { assert } from "#core/errors";
import { checkGraph } from "#onnx/check";
import { float, GraphBuilder, int } from "#onnx/builder";
import type { Dimension, Graph, Model, Node, ValueInfo } from "#onnx/graph";
import { differentiate, type KnownValue } from "./autodiff.js";
import { GRADIENT_DOMAIN } from "./autodiff/convolution.js";
import { GradientBuilder } from "./autodiff/gradient-builder.js";
import type { Domain, SessionOptions } from "./engine.js";
import { contrastiveLoss, normalizedFeatures } from "./loss.js";
import { lower } from "./lowering.js";
import { type AdamSettings, adamStep, adamUpdate } from "./optimizer.js";
import {
  encoderValues,
  type Group,
  type GroupLayout,
  isBatchNormalization,
  type ParameterLayout,
  type Place,
} from "./parameter-layout.js";

/** Operator set of the graphs written here, at least: encoders of 13 to 17 hold nothing that 17 reads otherwise. */
const LEAST_OPSET = 17;

/** What every graph needs of the session's settings. */
export type GraphOptions = Pick<
  SessionOptions,
  "encoder" | "heightPx" | "widthPx"
>;

/** What an iteration's graph needs besides. */
export type IterationOptions = GraphOptions &
  Pick<SessionOptions, "temperature" | "weightDecay" | "adam">;

/** Names of the graphs' inputs and outputs; state goes in as `name` and comes out as `next/name`. */
export const names = {
  images: (domain: Domain) => `${domain}/images`,
  prototypeOf: (domain: Domain) => `${domain}/prototypeOf`,
  weights: (group: Group) => `${group}/weights`,
  moment1: (group: Group) => `${group}/moment1`,
  moment2: (group: Group) => `${group}/moment2`,
  statistics: (group: Group) => `${group}/statistics`,
  next: (name: string) => `next/${name}`,
  prototypes: "prototypes",
  learningRate: "learningRate",
  step: "step",
  /** float32 [domains, 1], in the order in which the graph was asked for them. */
  losses: "losses",
  /** float32 [B, D], unit rows, the domains one after another. */
  features: "features",
  gradient: (group: Group) => `${group}/gradient`,
  cotangent: "cotangent",
} as const;

/** The groups whose weights move when crops of these domains are seen. */
export function groupsOf(
  layout: ParameterLayout,
  domains: readonly Domain[],
): Group[] {
  return layout.isDomainSpecific ? ["shared", ...domains] : ["shared"];
}

/**
 * One iteration as one graph: encoder in training mode, loss against the prototypes, gradients, weight decay,
 * Adam, and the running statistics.
 *
 * Crops of both domains pass every operator together; only batch norms tell them apart.
 *
 * @param domains  whose crops a batch holds, in this order
 * @param results  `update` writes the state after the step; `gradients` the gradient of each group instead
 */
export function iterationGraph(
  options: IterationOptions,
  layout: ParameterLayout,
  domains: readonly Domain[],
  results: "update" | "gradients" = "update",
): Model {
  const writer = new TrainingGraphWriter(options, layout, domains);
  const feature = writer.encoder();
  const { g } = writer;
  const prototypes = writer.input(names.prototypes, [
    "prototypes",
    layout.dimension,
  ]);
  const prototypeOf = g.concat(
    domains.map((domain) =>
      writer.input(names.prototypeOf(domain), [domain], "int32"),
    ),
    0,
  );
  const features = normalizedFeatures(feature, g);
  const losses = contrastiveLoss(
    {
      features,
      prototypes,
      prototypeOf,
      membership: writer.membership,
      temperature: options.temperature,
    },
    g,
  );
  const loss = g.sum(losses, [0, 1]);
  writer.builder.output(losses.name, "float32", losses.dims, names.losses);
  writer.builder.output(
    features.name,
    "float32",
    features.dims,
    names.features,
  );
  writer.writeStatistics();
  writer.writeUpdates(
    loss,
    results === "update"
      ? { ...options.adam, weightDecay: options.weightDecay }
      : "gradients",
  );
  return writer.model();
}

/**
 * A forward pass in training mode whose only output is each batch norm's statistics: `next/<group>/statistics`
 * holds the means and unbiased variances of this batch.
 */
export function statisticsGraph(
  options: GraphOptions,
  layout: ParameterLayout,
  domain: Domain,
): Model {
  const writer = new TrainingGraphWriter(options, layout, [domain]);
  writer.encoder();
  writer.writeStatistics("this batch alone");
  return writer.model();
}

/**
 * The gradient of Σ feature · cotangent with respect to every trained number, of one group (`source/images` in).
 *
 * @param mode  batch norms use the batch's statistics, or the running ones
 */
export function gradientGraph(
  options: GraphOptions,
  layout: ParameterLayout,
  mode: BatchNormMode,
): Model {
  const writer = new TrainingGraphWriter(options, layout, ["source"]);
  const feature = writer.encoder(mode);
  const { g } = writer;
  const cotangent = writer.input(names.cotangent, feature.dims);
  writer.builder.output(feature.name, "float32", feature.dims, names.features);
  writer.writeUpdates(g.sum(g.mul(feature, cotangent), [0, 1]), "gradients");
  return writer.model();
}

/** Whose statistics batch norms normalize by. */
export type BatchNormMode = "of the batch" | "running";

/** Statistics of one batch norm in a batch, [G, C] each. */
interface BatchStatistics {
  readonly node: Node;
  readonly mean: ValueInfo;
  /** Unbiased. */
  readonly variance: ValueInfo;
}

class TrainingGraphWriter {
  builder = new GraphBuilder("iteration");
  g: GradientBuilder;
  readonly membership: ValueInfo;
  readonly #opset: number;
  readonly #options: GraphOptions;
  readonly #layout: ParameterLayout;
  readonly #domains: readonly Domain[];
  readonly #values = new Map<string, KnownValue>();
  readonly #batch: string;
  readonly #images: ValueInfo;
  /** Crops of one domain, or all of them where batch norms are shared: [G, B]. */
  readonly #normalizedTogether: ValueInfo;
  readonly #batchStatistics: BatchStatistics[] = [];
  /** Parameters of each group by initializer name. */
  readonly #parameters = new Map<Group, ReadonlyMap<string, ValueInfo>>();
  readonly #weights = new Map<Group, ValueInfo>();

  constructor(
    options: GraphOptions,
    layout: ParameterLayout,
    domains: readonly Domain[],
  ) {
    this.#opset = Math.max(LEAST_OPSET, options.encoder.opset);
    this.g = new GradientBuilder(this.builder, this.#opset, "training");
    this.#options = options;
    this.#layout = layout;
    this.#domains = domains;
    const { heightPx, widthPx } = options;
    const images = domains.map((domain) =>
      this.input(names.images(domain), [domain, 3, heightPx, widthPx]),
    );
    this.#images = this.g.concat(images, 0);
    this.#batch = String(this.#images.dims[0]);
    const counts = images.map((value) => this.#sizeOf(value));
    this.membership = this.#membershipOf(counts);
    this.#normalizedTogether = layout.isDomainSpecific
      ? this.membership
      : this.#ones(this.#images);
    for (const group of groupsOf(layout, domains)) {
      const { trained, trainedSize } = this.#groupLayout(group);
      if (trainedSize === 0) continue;
      const weights = this.input(names.weights(group), [trainedSize]);
      this.#weights.set(group, weights);
      this.#parameters.set(group, this.#cut(weights, trained, `${group}/`));
    }
  }

  input(
    name: string,
    dims: readonly (number | string)[],
    dataType: ValueInfo["dataType"] = "float32",
  ): ValueInfo {
    this.builder.input(name, dataType, dims);
    const value = { name, dataType, dims };
    this.#values.set(name, value);
    return value;
  }

  /** Writes the encoder's nodes. @returns its output [B, D] */
  encoder(mode: BatchNormMode = "of the batch"): ValueInfo {
    const { encoder, heightPx, widthPx } = this.#options;
    const { graph } = encoder;
    const values = encoderValues(encoder, { heightPx, widthPx }, this.#batch);
    const shared = this.#parameters.get("shared");
    const renamed = new Map<string, string>([
      [graph.inputs[0].name, this.#images.name],
    ]);
    // A prefix of their own, so that no name of a file meets one of this graph's (`features`, `ints` …).
    const own = (name: string) => `encoder/${name}`;
    for (const [name, tensor] of graph.initializers) {
      const parameter = shared?.get(name);
      if (parameter !== undefined) renamed.set(name, parameter.name);
      else renamed.set(name, this.builder.initializer(own(name), tensor));
    }
    for (const [name, value] of values) {
      if (!renamed.has(name)) renamed.set(name, own(name));
      const now = renamed.get(name) ?? name;
      if (!this.#values.has(now))
        this.#values.set(now, { ...value, name: now });
    }
    for (const node of graph.nodes) {
      if (mode === "of the batch" && isBatchNormalization(node))
        this.#batchNormalization(node, renamed, values);
      else {
        const inputs = node.inputs.map((input) => renamed.get(input) ?? input);
        const outputs = node.outputs.map((name) => renamed.get(name) ?? name);
        const { opType, attributes, domain, name } = node;
        this.builder.node(opType, inputs, {
          attributes,
          domain,
          outputs,
          name,
        });
      }
    }
    const output = values.get(graph.outputs[0].name);
    assert(output !== undefined, "the encoder's output has a shape");
    return { ...output, name: renamed.get(output.name) ?? output.name };
  }

  /** Writes `next/<group>/statistics` for the domains of this graph. */
  writeStatistics(of: "running" | "this batch alone" = "running"): void {
    const { g, builder } = this;
    const groups = this.#layout.isDomainSpecific
      ? this.#domains
      : (["shared"] as const);
    groups.forEach((group, row) => {
      const { statistics, statisticsSize } = this.#groupLayout(group);
      if (statisticsSize === 0) return;
      const name = names.statistics(group);
      const old =
        of === "running"
          ? this.#cut(
              this.input(name, [statisticsSize]),
              statistics,
              `${group}/`,
            )
          : undefined;
      const fresh = new Map<string, ValueInfo>();
      for (const { node, mean, variance } of this.#batchStatistics) {
        const { momentum } = node.attributes;
        const kept = momentum?.type === "float" ? momentum.value : 0.9;
        [mean, variance].forEach((all, i) => {
          const place = node.inputs[3 + i];
          const size = all.dims[1];
          const own = g.reshape(
            groups.length === 1
              ? all
              : g.slice(all, [0], [row], { ends: [row + 1] }),
            [size],
          );
          const before = old?.get(place);
          fresh.set(
            place,
            before === undefined
              ? own
              : g.add(g.mul(before, kept), g.mul(own, 1 - kept)),
          );
        });
      }
      const parts = statistics
        .map((place) => fresh.get(place.name))
        .filter((part) => part !== undefined);
      builder.output(
        g.concat(parts, 0).name,
        "float32",
        [statisticsSize],
        names.next(name),
      );
    });
  }

  /** Differentiates and writes the optimizer's step, or the plain gradients. */
  writeUpdates(loss: ValueInfo, results: AdamSettings | "gradients"): void {
    const parameters = [...this.#parameters.values()].flatMap((group) => [
      ...group.values(),
    ]);
    const { graph, gradients, values } = differentiate(
      { graph: this.builder.build(), opset: this.#opset },
      loss.name,
      parameters.map(({ name }) => name),
      new Map([...this.#values, ...this.g.values]),
    );
    this.#continue(graph, values);
    const { g, builder } = this;
    const step =
      results === "gradients"
        ? undefined
        : adamStep(
            this.input(names.learningRate, [], "float64"),
            this.input(names.step, [], "float64"),
            results,
            g,
          );
    for (const [group, weights] of this.#weights) {
      const { trained, trainedSize } = this.#groupLayout(group);
      const own = this.#parameters.get(group);
      const parts = trained.map(({ name, size }) => {
        const gradient = gradients.get(own?.get(name)?.name ?? "");
        assert(gradient !== undefined, `"${name}" has a gradient`);
        return g.reshape(gradient, [size]);
      });
      const gradient = g.concat(parts, 0);
      const dims = [trainedSize];
      if (results === "gradients" || step === undefined) {
        builder.output(gradient.name, "float32", dims, names.gradient(group));
        continue;
      }
      const moment1 = this.input(names.moment1(group), dims);
      const moment2 = this.input(names.moment2(group), dims);
      const next = adamUpdate(
        { weights, gradient, moment1, moment2 },
        step,
        results,
        g,
      );
      builder.output(
        next.weights.name,
        "float32",
        dims,
        names.next(names.weights(group)),
      );
      builder.output(
        next.moment1.name,
        "float32",
        dims,
        names.next(names.moment1(group)),
      );
      builder.output(
        next.moment2.name,
        "float32",
        dims,
        names.next(names.moment2(group)),
      );
    }
  }

  /** The graph, lowered and checked. */
  model(): Model {
    const values = new Map<string, ValueInfo>([
      ...this.#values,
      ...this.g.values,
    ]);
    const graph = lower(this.builder.build(), this.#opset, values);
    const model = { graph, opset: this.#opset, irVersion: 8, metadata: {} };
    checkGraph(model);
    return model;
  }

  #continue(graph: Graph, values: ReadonlyMap<string, ValueInfo>): void {
    for (const [name, value] of values) this.#values.set(name, value);
    this.builder = GraphBuilder.extending(graph, { keepOutputs: true });
    this.g = new GradientBuilder(this.builder, this.#opset, "update");
  }

  #groupLayout(group: Group): GroupLayout {
    const layout = this.#layout.groups.get(group);
    assert(layout !== undefined, `the layout has group ${group}`);
    return layout;
  }

  /** A group's vector as its tensors, by initializer name. */
  #cut(
    vector: ValueInfo,
    places: readonly Place[],
    prefix: string,
  ): ReadonlyMap<string, ValueInfo> {
    const { g, builder } = this;
    const lengths = g.ints(places.map(({ size }) => size));
    const pieces =
      places.length === 1
        ? [vector]
        : g.emitMany(
            "Split",
            [vector, lengths],
            places.map(({ size }) => ({ dims: [size] })),
            {
              attributes: { axis: int(0) },
            },
          );
    return new Map(
      places.map(({ name, dims }, i) => {
        if (dims.length === 1) return [name, pieces[i]];
        const [own] = builder.node(
          "Reshape",
          [pieces[i].name, g.ints(dims).name],
          {
            outputs: [builder.uniqueName(`${prefix}${name}`) + "/tensor"],
          },
        );
        const value: ValueInfo = { name: own, dataType: "float32", dims };
        this.#values.set(own, value);
        return [name, value];
      }),
    );
  }

  #batchNormalization(
    node: Node,
    renamed: Map<string, string>,
    values: ReadonlyMap<string, KnownValue>,
  ): void {
    const { g } = this;
    const x = values.get(node.inputs[0]);
    const y = values.get(node.outputs[0]);
    assert(
      x !== undefined && y !== undefined,
      "batch normalization has shapes",
    );
    const channels = x.dims[1];
    const groups = this.#layout.isDomainSpecific
      ? this.#domains
      : (["shared"] as const);
    const affine = (position: number): ValueInfo => {
      const name = node.inputs[position];
      const copies = groups.map((group) => {
        const own = this.#parameters.get(group)?.get(name);
        return g.reshape(
          own ?? {
            name: renamed.get(name) ?? name,
            dataType: "float32",
            dims: [channels],
          },
          [1, channels],
        );
      });
      return g.concat(copies, 0);
    };
    const dims = [groups.length, channels];
    const { epsilon } = node.attributes;
    const input = { ...x, name: renamed.get(x.name) ?? x.name };
    const [normalized, mean, variance] = g.emitMany(
      "DomainBatchNormalization",
      [input, affine(1), affine(2), this.#normalizedTogether],
      [{ dims: y.dims }, { dims }, { dims }],
      {
        domain: GRADIENT_DOMAIN,
        attributes: { epsilon: epsilon ?? float(1e-5) },
      },
    );
    renamed.set(y.name, normalized.name);
    this.#batchStatistics.push({
      node,
      mean,
      variance: this.#unbiased(variance, x),
    });
  }

  /** n / (n − 1) times the biased variance, as PyTorch keeps it; a single value has variance 0. */
  #unbiased(variance: ValueInfo, { dims }: ValueInfo): ValueInfo {
    const { g } = this;
    const positions = dims
      .slice(2)
      .reduce<number>((product, dim) => product * Number(dim), 1);
    const count = g.mul(
      g.sum(this.#normalizedTogether, [1], "keep"),
      positions,
    );
    return g.mul(variance, g.div(count, g.max(g.sub(count, 1), 1)));
  }

  /** B as int64 [1]. */
  #sizeOf(images: ValueInfo): ValueInfo {
    const shape = this.g.shapeOf(images);
    return this.g.slice(shape, [0], [0], { ends: [1] });
  }

  #ones(images: ValueInfo): ValueInfo {
    return this.#filled([this.#sizeOf(images)], [1], images.dims[0]);
  }

  /** float32 [G, B]: row d is 1 in the stretch of domain d. */
  #membershipOf(counts: readonly ValueInfo[]): ValueInfo {
    const rows = counts.map((_, row) =>
      this.#filled(
        counts,
        counts.map((_, column) => (row === column ? 1 : 0)),
        this.#batch,
      ),
    );
    return this.g.concat(rows, 0);
  }

  /** float32 [1, B]: a stretch of each value after the other. */
  #filled(
    counts: readonly ValueInfo[],
    fills: readonly number[],
    batch: Dimension,
  ): ValueInfo {
    const { g } = this;
    const parts = counts.map((count, i) =>
      g.emit(
        "Expand",
        [
          g.constant({
            dataType: "float32",
            dims: [1, 1],
            data: Float32Array.of(fills[i]),
          }),
          g.concat([g.ints([1]), count], 0),
        ],
        {
          dims: [1, this.#domains[i] ?? batch],
        },
      ),
    );
    const joined = g.concat(parts, 1);
    return { ...joined, dims: [1, batch] };
  }
}
