import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { readModel, writeModel } from "#onnx/model";
import type { DomainBatch, TrainingSession } from "#train/engine";
import {
  createOnnxruntimeEngine,
  createRunner,
} from "#train/engines/onnxruntime";
import { prepareEncoder } from "#train/parameter-layout";
import { iterationGraph, names } from "#train/training-graph";
import type { Domain } from "#train/engine";

import { assertClose } from "../support/close.js";
import { goldenCases, goldenFolder } from "../support/golden.js";

interface TrajectoryCase {
  readonly model: string;
  readonly batches?: string;
  readonly steps: number;
  readonly batch: number;
  readonly input_shape: readonly [number, number, number];
  readonly uda: boolean;
  readonly lr: number;
  readonly weight_decay: number;
  readonly temperature: number;
  readonly momentum: number;
  readonly num_source_classes: number;
  readonly memory: readonly number[];
  readonly labels: readonly number[];
  readonly target_indexes: readonly (readonly number[])[];
  readonly source_labels: readonly (readonly number[])[] | null;
  readonly features_step0: readonly number[];
  readonly grad_l2_step0: Readonly<Record<string, number>>;
  readonly loss_target: readonly number[];
  readonly loss_source?: readonly number[] | null;
  readonly memory_after: readonly number[];
  readonly eval_features_after: readonly number[];
}

const cases = goldenCases<TrajectoryCase>("trajectories/trajectories.json");

describe("training follows the reference's trajectories", () => {
  if (cases === undefined)
    test("has cases", {
      skip: "trajectories/trajectories.json is not in the golden folder",
    });
  for (const [name, golden] of cases ?? []) {
    test(`${name}: losses, features, memory and evaluation`, async () => {
      const run = new Trajectory(name, golden);
      const session = await createOnnxruntimeEngine().open(run.options);
      try {
        await run.follow(session);
      } finally {
        await session.close();
      }
    });
    test(`${name}: gradient norms of step 0`, async () => {
      await new Trajectory(name, golden).compareGradients();
    });
  }
});

/** The reference's loop with our session in the place of network and optimizer. */
class Trajectory {
  readonly #golden: TrajectoryCase;
  readonly #batches: Float32Array;
  readonly #memory: Float32Array;
  /** Prototype of each memory row. */
  readonly #prototypeOf: readonly number[];
  readonly #prototypeCount: number;
  readonly #dimension: number;

  constructor(name: string, golden: TrajectoryCase) {
    this.#golden = golden;
    const bytes = readFileSync(
      join(
        goldenFolder,
        "trajectories",
        golden.batches ?? `${name}.batches.f32`,
      ),
    );
    this.#batches = new Float32Array(
      bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
    );
    this.#memory = Float32Array.from(golden.memory);
    const labels = [...new Set(golden.labels)].sort((a, b) => a - b);
    this.#prototypeOf = golden.labels.map((label) => labels.indexOf(label));
    this.#prototypeCount = labels.length;
    this.#dimension = golden.memory.length / golden.labels.length;
  }

  get options() {
    const {
      model,
      input_shape: dims,
      uda,
      temperature,
      weight_decay: weightDecay,
    } = this.#golden;
    return {
      encoder: readModel(
        readFileSync(join(goldenFolder, "trajectories", model)),
      ),
      heightPx: dims[1],
      widthPx: dims[2],
      domainSpecificBatchNorm: uda,
      featureBias: uda ? ("trained" as const) : ("frozen" as const),
      temperature,
      weightDecay,
      adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
      device: "cpu" as const,
      threads: 0,
    };
  }

  async follow(session: TrainingSession): Promise<void> {
    const golden = this.#golden;
    for (let step = 0; step < golden.steps; step++) {
      const { source, target } = this.#halves(step);
      const output = await session.iterate({
        ...(source && { source: source.batch }),
        target: target.batch,
        prototypes: this.#prototypes(),
        prototypeCount: this.#prototypeCount,
        learningRate: golden.lr,
      });
      assertClose([output.targetLoss ?? NaN], [golden.loss_target[step]], {
        rel: 1e-3,
      });
      if (golden.loss_source && source)
        assertClose([output.sourceLoss ?? NaN], [golden.loss_source[step]], {
          rel: 1e-3,
        });
      const features = Float32Array.from([
        ...(output.sourceFeatures ?? []),
        ...(output.targetFeatures ?? []),
      ]);
      if (step === 0)
        assertClose(features, golden.features_step0, { abs: 1e-5 });
      this.#update(target.rows, output.targetFeatures ?? new Float32Array());
      if (source)
        this.#update(source.rows, output.sourceFeatures ?? new Float32Array());
    }
    assertClose(this.#memory, golden.memory_after, { abs: 1e-4 });
    const count = golden.eval_features_after.length / this.#dimension;
    const images = this.#batches.subarray(0, count * this.#cropSize);
    assertClose(
      await session.embed(images, count, "target"),
      golden.eval_features_after,
      { abs: 1e-4 },
    );
  }

  async compareGradients(): Promise<void> {
    const { options } = this;
    const { encoder, layout } = prepareEncoder(options.encoder, options);
    const { source, target } = this.#halves(0);
    const domains: Domain[] = source ? ["source", "target"] : ["target"];
    const model = iterationGraph(
      { ...options, encoder },
      layout,
      domains,
      "gradients",
    );
    const runner = await createRunner(writeModel(model));
    const feeds: Record<
      string,
      { dataType: "float32"; dims: number[]; data: Float32Array }
    > = {};
    const put = (name: string, dims: number[], data: Float32Array) =>
      (feeds[name] = { dataType: "float32", dims, data });
    put(
      names.prototypes,
      [this.#prototypeCount, this.#dimension],
      this.#prototypes(),
    );
    const own: Record<
      string,
      { dataType: "int32"; dims: number[]; data: Int32Array }
    > = {};
    const { input_shape: dims } = this.#golden;
    for (const domain of domains) {
      const half = domain === "source" ? source : target;
      if (half === undefined) continue;
      put(names.images(domain), [half.batch.count, ...dims], half.batch.images);
      own[names.prototypeOf(domain)] = {
        dataType: "int32",
        dims: [half.batch.count],
        data: half.batch.prototypeOf,
      };
    }
    for (const [
      group,
      { trained, trainedSize, statistics, statisticsSize },
    ] of layout.groups) {
      const gathered = (places: typeof trained, size: number) => {
        const vector = new Float32Array(size);
        for (const place of places)
          vector.set(
            encoder.graph.initializers.get(place.name)?.data as Float32Array,
            place.offset,
          );
        return vector;
      };
      put(names.weights(group), [trainedSize], gathered(trained, trainedSize));
      put(
        names.statistics(group),
        [statisticsSize],
        gathered(statistics, statisticsSize),
      );
    }
    const needed = Object.fromEntries(
      Object.entries({ ...feeds, ...own }).filter(([name]) =>
        runner.inputNames.includes(name),
      ),
    );
    const outputs = await runner.run(needed);
    await runner.close();
    const norms = new Map<string, number>();
    for (const [group, { trained }] of layout.groups) {
      const gradient = outputs[names.gradient(group)]?.data as
        Float32Array | undefined;
      for (const { name, offset, size } of trained) {
        const part =
          gradient?.subarray(offset, offset + size) ?? new Float32Array();
        const norm = Math.sqrt(part.reduce((sum, x) => sum + x * x, 0));
        // The reference keeps a domain's copies as <batch norm>.BN_S and .BN_T.
        const copy =
          group === "source" ? ".BN_S" : group === "target" ? ".BN_T" : "";
        norms.set(name.replace(/(\.[^.]+)$/, `${copy}$1`), norm);
      }
    }
    for (const [name, expected] of Object.entries(this.#golden.grad_l2_step0))
      assertClose([norms.get(name) ?? NaN], [expected], {
        rel: 1e-3,
        abs: 1e-4,
      });
  }

  get #cropSize(): number {
    return this.#golden.input_shape.reduce((product, dim) => product * dim, 1);
  }

  /** A batch as the reference lays it out: the source half, then the target half. */
  #halves(step: number): {
    readonly source: Half | undefined;
    readonly target: Half;
  } {
    const {
      steps,
      num_source_classes: classes,
      target_indexes: targets,
      source_labels: labels,
    } = this.#golden;
    const length = this.#batches.length / steps;
    const images = this.#batches.subarray(step * length, (step + 1) * length);
    const sourceRows = labels?.[step];
    const split = (sourceRows?.length ?? 0) * this.#cropSize;
    return {
      source: sourceRows && this.#half(sourceRows, images.subarray(0, split)),
      target: this.#half(
        targets[step].map((index) => classes + index),
        images.subarray(split),
      ),
    };
  }

  #half(rows: readonly number[], images: Float32Array): Half {
    const prototypeOf = Int32Array.from(rows, (row) => this.#prototypeOf[row]);
    return { rows, batch: { images, count: rows.length, prototypeOf } };
  }

  #prototypes(): Float32Array {
    const prototypes = new Float32Array(this.#prototypeCount * this.#dimension);
    const counts = new Array<number>(this.#prototypeCount).fill(0);
    this.#prototypeOf.forEach((prototype, row) => {
      counts[prototype]++;
      for (let d = 0; d < this.#dimension; d++)
        prototypes[prototype * this.#dimension + d] +=
          this.#memory[row * this.#dimension + d];
    });
    return prototypes.map(
      (sum, i) => sum / counts[Math.floor(i / this.#dimension)],
    );
  }

  /** One row after another, a row seen twice moves twice (yxgeee/SpCL spcl/models/hm.py, HM.backward). */
  #update(rows: readonly number[], features: Float32Array): void {
    const { momentum } = this.#golden;
    rows.forEach((row, b) => {
      const own = this.#memory.subarray(
        row * this.#dimension,
        (row + 1) * this.#dimension,
      );
      own.forEach(
        (old, d) =>
          (own[d] =
            momentum * old +
            (1 - momentum) * features[b * this.#dimension + d]),
      );
      const norm = Math.sqrt(own.reduce((sum, x) => sum + x * x, 0));
      own.forEach((x, d) => (own[d] = x / norm));
    });
  }
}

interface Half {
  /** Memory rows, absolute. */
  readonly rows: readonly number[];
  readonly batch: DomainBatch;
}
