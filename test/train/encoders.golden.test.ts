import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { readModel, writeModel } from "#onnx/model";
import { createRunner } from "#train/engines/onnxruntime";
import { prepareEncoder } from "#train/parameter-layout";
import {
  type BatchNormMode,
  gradientGraph,
  names,
} from "#train/training-graph";

import { assertClose } from "../support/close.js";
import { goldenCases, goldenFolder } from "../support/golden.js";

interface ExpectedGradient {
  readonly shape: readonly number[];
  readonly l2: number;
  readonly dot: number;
  readonly first: readonly number[];
  readonly tolerance: number;
}

interface EncoderMode {
  /** The first rows of the feature, flattened. */
  readonly feature: readonly number[];
  readonly feature_shape: readonly number[];
  readonly grads: Readonly<Record<string, ExpectedGradient>>;
}

interface EncoderCase {
  readonly model: string;
  readonly input?: string;
  readonly input_shape: readonly [number, number, number, number];
  readonly frozen?: EncoderMode;
  readonly train?: EncoderMode;
}

/** test/golden/README.md gives none for features: they are of size 1 to 30 and float32. */
const FEATURE_TOLERANCE = { abs: 1e-4, rel: 1e-4 };

const modes: Readonly<Record<"frozen" | "train", BatchNormMode>> = {
  frozen: "running",
  train: "of the batch",
};

const cases = goldenCases<EncoderCase>("encoders/gradients.json");

describe("gradients of the golden encoders equal PyTorch's", () => {
  if (cases === undefined)
    test("has cases", {
      skip: "encoders/gradients.json is not in the golden folder",
    });
  for (const [name, golden] of cases ?? [])
    for (const mode of ["frozen", "train"] as const) {
      const expected = golden[mode];
      if (expected === undefined) continue;
      test(`${name}, ${mode}: feature and every parameter`, async () => {
        const { features, gradients } = await gradientsOf(
          name,
          golden,
          modes[mode],
        );
        assertClose(
          features.subarray(0, expected.feature.length),
          expected.feature,
          FEATURE_TOLERANCE,
        );
        compareGradients(gradients, expected.grads);
      });
    }
});

/** Features and gradients of Σ feature_j · sin(0.7 j + 0.3), by initializer name. */
async function gradientsOf(
  name: string,
  { model, input, input_shape: inputDims }: EncoderCase,
  mode: BatchNormMode,
): Promise<{
  readonly features: Float32Array;
  readonly gradients: ReadonlyMap<string, Float32Array>;
}> {
  const folder = join(goldenFolder, "encoders");
  const [count, , heightPx, widthPx] = inputDims;
  const settings = {
    heightPx,
    widthPx,
    domainSpecificBatchNorm: false,
    featureBias: "trained",
  } as const;
  const { encoder, layout } = prepareEncoder(
    readModel(readFileSync(join(folder, model))),
    settings,
  );
  const graph = gradientGraph({ encoder, heightPx, widthPx }, layout, mode);
  const runner = await createRunner(writeModel(graph));
  try {
    const shared = layout.groups.get("shared");
    assert.ok(shared);
    const weights = new Float32Array(shared.trainedSize);
    for (const place of shared.trained)
      weights.set(
        encoder.graph.initializers.get(place.name)?.data as Float32Array,
        place.offset,
      );
    const dims = [count, layout.dimension];
    const cotangent = Float32Array.from(
      { length: count * layout.dimension },
      (_, j) => wave(j),
    );
    const outputs = await runner.run({
      [names.images("source")]: {
        dataType: "float32",
        dims: inputDims,
        data: readFloats(join(folder, input ?? `${name}.input.f32`)),
      },
      [names.weights("shared")]: {
        dataType: "float32",
        dims: [weights.length],
        data: weights,
      },
      [names.cotangent]: { dataType: "float32", dims, data: cotangent },
    });
    const gradient = outputs[names.gradient("shared")].data as Float32Array;
    const gradients = new Map(
      shared.trained.map((place) => [
        place.name,
        gradient.slice(place.offset, place.offset + place.size),
      ]),
    );
    return {
      features: outputs[names.features].data as Float32Array,
      gradients,
    };
  } finally {
    await runner.close();
  }
}

/** Same name: every figure. Another name in the ONNX file (linear layers, transposed): one whose L2 norm agrees. */
function compareGradients(
  gradients: ReadonlyMap<string, Float32Array>,
  expected: Readonly<Record<string, ExpectedGradient>>,
): void {
  const unnamed = [...gradients].filter(
    ([name]) => expected[name] === undefined,
  );
  for (const [name, { l2, dot, first, tolerance }] of Object.entries(
    expected,
  )) {
    const gradient = gradients.get(name);
    if (gradient === undefined) {
      const at = unnamed.findIndex(
        ([, values]) => Math.abs(norm(values) - l2) <= tolerance,
      );
      assert.notEqual(
        at,
        -1,
        `${name}: no gradient has L2 norm ${l2} ± ${tolerance}`,
      );
      unnamed.splice(at, 1);
      continue;
    }
    const spread = Math.sqrt(gradient.length) * tolerance;
    const within = (
      what: string,
      found: number,
      wanted: number,
      most: number,
    ) =>
      assert.ok(
        Math.abs(found - wanted) <= most,
        `${name}: ${what} is ${found}, expected ${wanted} ± ${most}`,
      );
    within("L2 norm", norm(gradient), l2, tolerance);
    within(
      "dot product",
      gradient.reduce((sum, x, i) => sum + x * Math.sin(0.7 * i + 0.3), 0),
      dot,
      spread,
    );
    first.forEach((wanted, i) =>
      within(`entry ${i}`, gradient[i], wanted, tolerance),
    );
  }
}

function wave(j: number): number {
  return Math.sin(0.7 * j + 0.3);
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
}

function readFloats(path: string): Float32Array {
  const bytes = readFileSync(path);
  return new Float32Array(
    bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
  );
}
