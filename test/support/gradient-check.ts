import assert from "node:assert/strict";
import { randomStream } from "#core/random";
import { GraphBuilder } from "#onnx/builder";
import type { Attribute, Tensor, ValueInfo } from "#onnx/graph";
import { writeModel } from "#onnx/model";
import { differentiate } from "#train/autodiff";
import { GradientBuilder } from "#train/autodiff/gradient-builder";
import { createRunner } from "#train/engines/onnxruntime";
import { lower } from "#train/lowering";

/** Values of an input that a gradient is checked for. */
export interface CheckedInput {
  readonly dims: readonly number[];
  /** `apart`: all different by 0.05 and never near 0; `positive`: in [0.5, 1.5); default in [−1, 1). */
  readonly values?: "apart" | "positive";
}

/** One operator with one set of attributes. */
export interface GradientCase {
  readonly title: string;
  /** A tensor is a constant: no gradient is checked for it. */
  readonly inputs: readonly (CheckedInput | Tensor | undefined)[];
  readonly outputs: readonly (readonly number[])[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly domain?: string;
}

const OPSET = 17;
/** Step of the central difference: rounding of the outputs (1e-7) and curvature (step²) then weigh the same. */
const STEP = 4e-3;

/** int64 constant. */
export function int64(
  values: readonly number[],
  dims: readonly number[] = [values.length],
): Tensor {
  return { dataType: "int64", dims, data: BigInt64Array.from(values, BigInt) };
}

/** float32 constant. */
export function float32(
  values: readonly number[],
  dims: readonly number[] = [values.length],
): Tensor {
  return { dataType: "float32", dims, data: Float32Array.from(values) };
}

/**
 * Compares a rule with central differences: for each input the slope of Σ y · c along a random direction, once by
 * the gradient, once by running the forward graph to both sides.
 */
export async function checkGradient(
  opType: string,
  gradientCase: GradientCase,
): Promise<void> {
  const random = randomStream(7, "gradient", opType, gradientCase.title);
  const builder = new GraphBuilder("case");
  const g = new GradientBuilder(builder, OPSET, "case");
  const checked: { readonly value: ValueInfo; readonly data: Float32Array }[] =
    [];
  const inputs = gradientCase.inputs.map((input, i) => {
    if (input === undefined) return undefined;
    if ("data" in input) return g.constant(input);
    const { dims } = input;
    const value: ValueInfo = {
      name: builder.input(`x${i}`, "float32", dims),
      dataType: "float32",
      dims,
    };
    const size = dims.reduce((product, dim) => product * dim, 1);
    checked.push({ value, data: valuesOf(input, size, random) });
    return value;
  });
  const outputs = g.emitMany(
    opType,
    inputs,
    gradientCase.outputs.map((dims) => ({ dims })),
    {
      attributes: gradientCase.attributes ?? {},
      domain: gradientCase.domain ?? "",
    },
  );
  // Only the first output of a batch normalization has a gradient: its statistics are not trained through.
  const summed = opType.includes("Normalization")
    ? outputs.slice(0, 1)
    : outputs;
  const weights = summed.map(({ dims }) => {
    const size = Number(
      dims.reduce((product, dim) => Number(product) * Number(dim), 1),
    );
    return Float32Array.from({ length: size }, () => random.between(-1, 1));
  });
  const terms = summed.map((y, i) => {
    const weighted = g.mul(
      y,
      g.constant({
        dataType: "float32",
        dims: y.dims.map(Number),
        data: weights[i],
      }),
    );
    return y.dims.length === 0
      ? weighted
      : g.sum(
          weighted,
          y.dims.map((_, axis) => axis),
        );
  });
  const loss = terms.reduce((sum, term) => g.add(sum, term));
  const known = new Map([
    ...checked.map(({ value }) => [value.name, value] as const),
    ...g.values,
  ]);
  const { graph, gradients, values } = differentiate(
    { graph: builder.build(), opset: OPSET },
    loss.name,
    checked.map(({ value }) => value.name),
    known,
  );
  const whole = GraphBuilder.extending(graph);
  summed.forEach((y, i) => whole.output(y.name, "float32", y.dims, `y${i}`));
  for (const { value } of checked) {
    const gradient = gradients.get(value.name);
    assert.ok(gradient, `${value.name} has a gradient`);
    assert.deepEqual(
      gradient.dims,
      value.dims,
      `shape of the gradient of ${value.name}`,
    );
    whole.output(
      gradient.name,
      "float32",
      value.dims,
      `gradient/${value.name}`,
    );
  }
  const model = {
    graph: lower(whole.build(), OPSET, values),
    opset: OPSET,
    irVersion: 8,
    metadata: {},
  };
  const runner = await createRunner(writeModel(model), { threads: 1 });
  try {
    const runAt = (moved?: {
      readonly name: string;
      readonly data: Float32Array;
    }) =>
      runner.run(
        Object.fromEntries(
          checked.map(({ value, data }) => [
            value.name,
            {
              dataType: "float32",
              dims: value.dims.map(Number),
              data: moved?.name === value.name ? moved.data : data,
            },
          ]),
        ),
      );
    const lossOf = (results: Readonly<Record<string, Tensor>>) =>
      summed.reduce(
        (sum, _, i) =>
          sum + inner(results[`y${i}`].data as Float32Array, weights[i]),
        0,
      );
    const here = await runAt();
    for (const { value, data } of checked) {
      const direction = Float32Array.from(data, () => random.between(-1, 1));
      const side = async (sign: number) =>
        lossOf(
          await runAt({
            name: value.name,
            data: data.map((x, i) => x + sign * STEP * direction[i]),
          }),
        );
      const numeric = ((await side(1)) - (await side(-1))) / (2 * STEP);
      const gradient = here[`gradient/${value.name}`].data as Float32Array;
      const analytic = inner(gradient, direction);
      const scale = Math.sqrt(inner(gradient, gradient)) + 1e-2;
      assert.ok(
        Math.abs(numeric - analytic) <= 3e-3 * scale,
        `${opType}, ${gradientCase.title}, ${value.name}: slope ${analytic} by the rule, ${numeric} by differences`,
      );
    }
  } finally {
    await runner.close();
  }
}

function valuesOf(
  { values }: CheckedInput,
  size: number,
  random: ReturnType<typeof randomStream>,
): Float32Array {
  if (values === "positive")
    return Float32Array.from({ length: size }, () => random.between(0.5, 1.5));
  if (values !== "apart")
    return Float32Array.from({ length: size }, () => random.between(-1, 1));
  const order = random.shuffle(
    Array.from({ length: size }, (_, i) => i),
  ) as number[];
  return Float32Array.from(order, (rank) => (rank - size / 2 + 0.5) * 0.05);
}

function inner(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}
