import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkGraph } from "#onnx/check";
import { foldConstants } from "#onnx/folding";
import type { Model, Tensor, ValueInfo } from "#onnx/graph";
import { readModel, writeModel } from "#onnx/model";
import { createRunner } from "#train/engines/onnxruntime";
import { assertClose } from "../support/close.js";
import { goldenFolder, realFolder, realMissing } from "../support/golden.js";
import { evaluateDims } from "../support/dimensions.js";

const osnet = "encoder/osnet_x0_25_msmt17.onnx";
const files = [
  ...["encoders", "trajectories"].flatMap((folder) =>
    readdirSync(join(goldenFolder, folder))
      .filter((name) => name.endsWith(".onnx"))
      .map((name) => ({
        path: join(goldenFolder, folder, name),
        skip: false as string | false,
      })),
  ),
  { path: join(realFolder, osnet), skip: realMissing(osnet) },
];

/** A batch of crops without meaning for an encoder's input. */
function batchFor(
  { dims, name }: ValueInfo,
  batch: number,
): Readonly<Record<string, Tensor>> {
  const shape = evaluateDims(dims, { batch });
  const length = shape.reduce((product, dim) => product * dim, 1);
  return {
    [name]: {
      dataType: "float32",
      dims: shape,
      data: Float32Array.from({ length }, (_, i) => Math.sin(i * i)),
    },
  };
}

async function run(bytes: Uint8Array, feeds: Readonly<Record<string, Tensor>>) {
  const runner = await createRunner(bytes);
  try {
    return await runner.run(feeds);
  } finally {
    await runner.close();
  }
}

/** The same model with every intermediate value as an output. */
function withAllOutputs(
  model: Model,
  values: ReadonlyMap<string, ValueInfo>,
): Model {
  const made = model.graph.nodes
    .flatMap(({ outputs }) => outputs)
    .filter((name) => name !== "");
  const outputs = made.map((name) => values.get(name) ?? assert.fail(name));
  return { ...model, graph: { ...model.graph, outputs } };
}

for (const { path, skip } of files)
  describe(path.split("/").slice(-2).join("/"), { skip }, () => {
    const bytes = skip === false ? readFileSync(path) : new Uint8Array();

    test("passes checkGraph, and so does what was written", () => {
      const model = readModel(bytes);
      checkGraph(model);
      checkGraph(readModel(writeModel(model)));
    });

    test("gives onnxruntime the same numbers after reading, folding and writing", async () => {
      const model = readModel(bytes);
      const feeds = batchFor(model.graph.inputs[0], 2);
      const [output] = model.graph.outputs;
      const expected = (await run(bytes, feeds))[output.name];
      const folded = foldConstants(model);
      checkGraph(folded);
      for (const candidate of [model, folded]) {
        const received = (await run(writeModel(candidate), feeds))[output.name];
        assertClose(
          received.data as Float32Array,
          expected.data as Float32Array,
          { abs: 1e-6, rel: 1e-6 },
        );
      }
    });

    test("has every inferred shape and type as onnxruntime finds them, for batches of 2 and 3", async () => {
      for (const model of [readModel(bytes), foldConstants(readModel(bytes))]) {
        const values = checkGraph(model);
        const open = writeModel(withAllOutputs(model, values));
        for (const batch of [2, 3]) {
          const found = await run(open, batchFor(model.graph.inputs[0], batch));
          for (const [name, tensor] of Object.entries(found)) {
            const value = values.get(name) ?? assert.fail(name);
            assert.equal(value.dataType, tensor.dataType, name);
            assert.deepEqual(
              evaluateDims(value.dims, { batch }),
              [...tensor.dims],
              name,
            );
          }
        }
      }
    });

    test("folds all shape arithmetic but what needs the batch's number", () => {
      const ops = foldConstants(readModel(bytes)).graph.nodes.map(
        ({ opType }) => opType,
      );
      assert.ok(!ops.includes("Constant") && !ops.includes("ConstantOfShape"));
      // A class token is spread over the batch: one Expand may keep its Shape.
      const expands = ops.filter((op) => op === "Expand").length;
      assert.ok(ops.filter((op) => op === "Shape").length <= expands);
    });
  });
