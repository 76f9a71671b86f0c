import { ClosedError } from "#core/errors";
import type { Model, Tensor } from "#onnx/graph";
import { GraphBuilder } from "#onnx/builder";
import { GradientBuilder } from "../autodiff/gradient-builder.js";
import type {
  Domain,
  DomainBatch,
  IterationInput,
  IterationOutput,
  SessionOptions,
  TrainingSession,
  TrainingState,
} from "../engine.js";
import { normalizedFeatures } from "../loss.js";
import {
  type ParameterLayout,
  prepareEncoder,
  statisticsGroup,
} from "../parameter-layout.js";
import {
  groupsOf,
  iterationGraph,
  names,
  statisticsGraph,
} from "../training-graph.js";
import { StateVectors } from "./training-state.js";

/** A compiled graph whose inputs and outputs lie where the caller says. */
export interface CompiledGraph {
  /**
   * Runs once.
   *
   * @param feeds    a tensor for each input; only read, but for those that also receive an output
   * @param targets  memory that receives outputs, by name
   * @param fetches  names of outputs to give back in memory of their own
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    targets: Readonly<Record<string, Tensor>>,
    fetches: readonly string[],
  ): Promise<Readonly<Record<string, Tensor>>>;
  close(): Promise<void>;
}

/** What an execution engine gives: graphs made runnable. */
export type CompileGraph = (model: Model) => Promise<CompiledGraph>;

/** Crops that pass the evaluation graph at once. */
export const EVALUATION_BATCH = 64;

/** A training session whose arithmetic is all in graphs. */
export class GraphSession implements TrainingSession {
  readonly #compile: CompileGraph;
  readonly #options: SessionOptions;
  readonly #layout: ParameterLayout;
  readonly #state: StateVectors;
  /** By the domains of the batch. */
  readonly #iterations = new Map<string, CompiledGraph>();
  readonly #statistics = new Map<Domain, CompiledGraph>();
  /** Encoders with the present weights inside; dropped when the weights move. */
  readonly #evaluations = new Map<Domain, CompiledGraph>();
  /** The weights have moved since the evaluation graphs were compiled. */
  #isStale = false;
  #isClosed = false;

  constructor(options: SessionOptions, compile: CompileGraph) {
    const { encoder, layout } = prepareEncoder(options.encoder, options);
    this.#options = { ...options, encoder };
    this.#layout = layout;
    this.#compile = compile;
    this.#state = new StateVectors(encoder, layout);
  }

  get dimension(): number {
    return this.#layout.dimension;
  }

  get parameterCount(): number {
    return this.#state.parameterCount;
  }

  /** `InferenceSession.run` copies every output that it wrote into a given tensor: weights, moments, statistics. */
  get copiedBytes(): number {
    let numbers = 0;
    for (const {
      weights,
      moment1,
      moment2,
      statistics,
    } of this.#state.groups.values())
      for (const vector of [weights, moment1, moment2, statistics])
        numbers += vector.length;
    return numbers * Float32Array.BYTES_PER_ELEMENT;
  }

  async iterate(input: IterationInput): Promise<IterationOutput> {
    this.#requireOpen();
    const batches = domainBatches(input);
    const domains = batches.map(({ domain }) => domain);
    const graph = await this.#iterationGraph(domains);
    const { dimension } = this;
    const feeds: Record<string, Tensor> = {
      [names.prototypes]: floats(
        [input.prototypeCount, dimension],
        input.prototypes,
      ),
      [names.learningRate]: double(input.learningRate),
      [names.step]: double(this.#state.step + 1),
    };
    for (const { domain, batch } of batches) {
      feeds[names.images(domain)] = this.#images(batch.images, batch.count);
      feeds[names.prototypeOf(domain)] = {
        dataType: "int32",
        dims: [batch.count],
        data: batch.prototypeOf,
      };
    }
    const targets: Record<string, Tensor> = {};
    const move = (name: string, vector: Float32Array) => {
      if (vector.length === 0) return;
      feeds[name] = floats([vector.length], vector);
      targets[names.next(name)] = feeds[name];
    };
    for (const group of groupsOf(this.#layout, domains)) {
      const { weights, moment1, moment2 } = this.#state.vectors(group);
      move(names.weights(group), weights);
      move(names.moment1(group), moment1);
      move(names.moment2(group), moment2);
    }
    for (const group of new Set(
      domains.map((domain) => statisticsGroup(this.#layout, domain)),
    ))
      move(names.statistics(group), this.#state.vectors(group).statistics);
    const outputs = await graph.run(feeds, targets, [
      names.losses,
      names.features,
    ]);
    this.#state.step++;
    this.#isStale = true;
    return iterationOutput(batches, outputs, dimension);
  }

  async embed(
    images: Float32Array,
    count: number,
    domain: Domain,
  ): Promise<Float32Array> {
    this.#requireOpen();
    const graph = await this.#evaluationGraph(domain);
    const { dimension } = this;
    const [input] = this.#options.encoder.graph.inputs;
    const features = new Float32Array(count * dimension);
    const size = images.length / Math.max(1, count);
    for (let start = 0; start < count; start += EVALUATION_BATCH) {
      const end = Math.min(count, start + EVALUATION_BATCH);
      const feeds = {
        [input.name]: this.#images(
          images.subarray(start * size, end * size),
          end - start,
        ),
      };
      const target = floats(
        [end - start, dimension],
        features.subarray(start * dimension, end * dimension),
      );
      await graph.run(feeds, { [UNIT_FEATURE]: target }, []);
    }
    return features;
  }

  async recomputeStatistics(
    domain: Domain,
    batches: AsyncIterable<{
      readonly images: Float32Array;
      readonly count: number;
    }>,
  ): Promise<void> {
    this.#requireOpen();
    const graph = await this.#statisticsGraph(domain);
    const groups = groupsOf(this.#layout, [domain]);
    const owner = statisticsGroup(this.#layout, domain);
    const { statistics } = this.#state.vectors(owner);
    const output = names.next(names.statistics(owner));
    const sums = new Float64Array(statistics.length);
    let seen = 0;
    for await (const { images, count } of batches) {
      const feeds: Record<string, Tensor> = {
        [names.images(domain)]: this.#images(images, count),
      };
      for (const group of groups) {
        const { weights } = this.#state.vectors(group);
        if (weights.length > 0)
          feeds[names.weights(group)] = floats([weights.length], weights);
      }
      const { [output]: fresh } = await graph.run(feeds, {}, [output]);
      fresh.data.forEach(
        (value: number | bigint, i: number) => (sums[i] += Number(value)),
      );
      seen++;
    }
    if (seen === 0) return;
    sums.forEach((sum, i) => (statistics[i] = sum / seen));
    this.#isStale = true;
  }

  copySourceToTarget(): void {
    this.#requireOpen();
    this.#state.copySourceToTarget();
    this.#isStale = true;
  }

  state(): TrainingState {
    this.#requireOpen();
    return this.#state.state();
  }

  restore(state: TrainingState): void {
    this.#requireOpen();
    this.#state.restore(state);
    this.#isStale = true;
  }

  exportEncoder(domain: Domain): Model {
    this.#requireOpen();
    const { encoder } = this.#options;
    const initializers = new Map(
      [...this.#state.initializers(encoder, domain)].map(([name, tensor]) => [
        name,
        { ...tensor, data: tensor.data.slice() } as Tensor,
      ]),
    );
    return { ...encoder, graph: { ...encoder.graph, initializers } };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const graphs = [
      this.#iterations,
      this.#statistics,
      this.#evaluations,
    ].flatMap((map) => [...map.values()]);
    await Promise.all(graphs.map((graph) => graph.close()));
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new ClosedError("training session");
  }

  #images(images: Float32Array, count: number): Tensor {
    const { heightPx, widthPx } = this.#options;
    return floats([count, 3, heightPx, widthPx], images);
  }

  async #iterationGraph(domains: readonly Domain[]): Promise<CompiledGraph> {
    const key = domains.join("+");
    const known = this.#iterations.get(key);
    if (known !== undefined) return known;
    const graph = await this.#compile(
      iterationGraph(this.#options, this.#layout, domains),
    );
    this.#iterations.set(key, graph);
    return graph;
  }

  async #statisticsGraph(domain: Domain): Promise<CompiledGraph> {
    const known = this.#statistics.get(domain);
    if (known !== undefined) return known;
    const graph = await this.#compile(
      statisticsGraph(this.#options, this.#layout, domain),
    );
    this.#statistics.set(domain, graph);
    return graph;
  }

  /** The encoder in evaluation mode with L2 behind; weights inside, so that onnxruntime may fold and reorder them. */
  async #evaluationGraph(domain: Domain): Promise<CompiledGraph> {
    if (this.#isStale) {
      const stale = [...this.#evaluations.values()];
      this.#evaluations.clear();
      this.#isStale = false;
      await Promise.all(stale.map((graph) => graph.close()));
    }
    const known = this.#evaluations.get(domain);
    if (known !== undefined) return known;
    const { encoder } = this.#options;
    const initializers = this.#state.initializers(encoder, domain);
    const graph = await this.#compile(
      evaluationModel(
        { ...encoder, graph: { ...encoder.graph, initializers } },
        this.dimension,
      ),
    );
    this.#evaluations.set(domain, graph);
    return graph;
  }
}

/** Name of the evaluation graph's output. */
const UNIT_FEATURE = "evaluation/feature";

/** An encoder whose output is unit rows, under the name UNIT_FEATURE. */
function evaluationModel(encoder: Model, dimension: number): Model {
  const [output] = encoder.graph.outputs;
  const builder = GraphBuilder.extending(encoder.graph);
  const g = new GradientBuilder(builder, encoder.opset, "evaluation");
  const feature = normalizedFeatures(
    { ...output, dims: ["batch", dimension] },
    g,
  );
  builder.output(feature.name, "float32", feature.dims, UNIT_FEATURE);
  return { ...encoder, graph: builder.build() };
}

interface NamedBatch {
  readonly domain: Domain;
  readonly batch: DomainBatch;
}

function domainBatches({ source, target }: IterationInput): NamedBatch[] {
  const batches: NamedBatch[] = [];
  if (source !== undefined && source.count > 0)
    batches.push({ domain: "source", batch: source });
  if (target !== undefined && target.count > 0)
    batches.push({ domain: "target", batch: target });
  return batches;
}

function iterationOutput(
  batches: readonly NamedBatch[],
  outputs: Readonly<Record<string, Tensor>>,
  dimension: number,
): IterationOutput {
  const losses = outputs[names.losses].data as Float32Array;
  const features = outputs[names.features].data as Float32Array;
  const result: {
    -readonly [Key in keyof IterationOutput]: IterationOutput[Key];
  } = { loss: 0 };
  let start = 0;
  batches.forEach(({ domain, batch }, i) => {
    const own = features.subarray(
      start * dimension,
      (start + batch.count) * dimension,
    );
    start += batch.count;
    result.loss += losses[i];
    if (domain === "source")
      [result.sourceLoss, result.sourceFeatures] = [losses[i], own];
    else [result.targetLoss, result.targetFeatures] = [losses[i], own];
  });
  return result;
}

function floats(dims: readonly number[], data: Float32Array): Tensor {
  return { dataType: "float32", dims, data };
}

function double(value: number): Tensor {
  return { dataType: "float64", dims: [], data: Float64Array.of(value) };
}
