import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import protobuf from "protobufjs/light.js";
import { ReidError } from "#core/errors";
import { float, GraphBuilder, int, ints, string } from "#onnx/builder";
import { OnnxMalformedError, OnnxUnsupportedError } from "#onnx/errors";
import type { Model, Tensor } from "#onnx/graph";
import { readModel, writeModel } from "#onnx/model";
import { type ModelProto, schemaJson } from "#onnx/schema";
import { goldenFolder } from "../support/golden.js";

const tiny = readFileSync(join(goldenFolder, "encoders/tiny_resnet.onnx"));
const messages = protobuf.Root.fromJSON(schemaJson);
const modelType = messages.lookupType("ModelProto");

/** The bytes of tiny_resnet with something changed in its messages. */
function changed(change: (proto: ModelProto) => void): Uint8Array {
  const proto = modelType.decode(tiny) as unknown as ModelProto;
  change(proto);
  return modelType.encode(proto).finish();
}

describe("readModel", () => {
  test("reads only as many bytes as there are: every shorter file is malformed", () => {
    const lengths = [
      0,
      1,
      2,
      5,
      17,
      tiny.length >> 1,
      tiny.length - 200,
      tiny.length - 20,
      tiny.length - 1,
    ];
    for (const length of lengths)
      assert.throws(
        () => readModel(tiny.subarray(0, length)),
        OnnxMalformedError,
        `${length} bytes`,
      );
  });

  test("refuses bytes that are no ONNX with OnnxMalformedError", () => {
    for (const text of ["", "no model", "\x89PNG\r\n\x1a\n", "{}", "\x08\x07"])
      assert.throws(
        () => readModel(Buffer.from(text, "latin1")),
        OnnxMalformedError,
        text,
      );
  });

  test("throws nothing but its own errors on random and on damaged bytes", () => {
    const check = (bytes: Uint8Array) => {
      try {
        readModel(bytes);
      } catch (error) {
        assert.ok(error instanceof ReidError, String(error));
        assert.notEqual(error.code, "INTERNAL");
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), check), {
      seed: 1,
      numRuns: 500,
    });
    const head = tiny.subarray(0, 4000);
    fc.assert(
      fc.property(fc.nat(head.length - 1), fc.nat(255), (at, value) => {
        const bytes = Uint8Array.from(tiny);
        bytes[at] = value;
        check(bytes);
      }),
      { seed: 2, numRuns: 300 },
    );
  });

  test("refuses external data and says what to do", () => {
    const bytes = changed(({ graph }) => {
      const [weight] = graph?.initializer ?? [];
      weight.dataLocation = 1;
      weight.externalData = [{ key: "location", value: "weights.bin" }];
    });
    assert.throws(
      () => readModel(bytes),
      (error) => {
        assert.ok(error instanceof OnnxUnsupportedError);
        assert.match(
          error.message,
          /external data .*: save the model with its weights inside the one file$/,
        );
        return true;
      },
    );
  });

  test("refuses sparse initializers, functions and subgraphs by name", () => {
    const cases: readonly [RegExp, (proto: ModelProto) => void][] = [
      [
        /sparse/,
        ({ graph }) =>
          void (
            graph !== undefined &&
            (graph.sparseInitializer = [new Uint8Array(2)])
          ),
      ],
      [/functions/, (proto) => void (proto.functions = [new Uint8Array(2)])],
      [
        /subgraph/,
        ({ graph }) =>
          void graph?.node?.[0].attribute?.push({
            name: "body",
            type: 5,
            g: new Uint8Array(0),
          }),
      ],
    ];
    for (const [message, change] of cases)
      assert.throws(
        () => readModel(changed(change)),
        (error) => {
          assert.ok(error instanceof OnnxUnsupportedError);
          assert.match(error.message, message);
          return true;
        },
      );
  });

  test("refuses a tensor whose bytes do not fit its dimensions", () => {
    const bytes = changed(
      ({ graph }) => void graph?.initializer?.[0].dims?.push(3),
    );
    assert.throws(() => readModel(bytes), /holds \d+ numbers instead of \d+/);
  });

  test("reads numbers from typed fields as from raw bytes", () => {
    const bytes = changed(({ graph }) => {
      graph?.initializer?.push(
        { name: "f", dataType: 1, dims: [2], floatData: [1.5, -2] },
        { name: "i", dataType: 7, dims: [2], int64Data: [-3, 4] },
        { name: "b", dataType: 9, dims: [1], int32Data: [1] },
        { name: "d", dataType: 11, dims: [1], doubleData: [0.1] },
        { name: "u", dataType: 12, dims: [1], uint64Data: [7] },
        { name: "h", dataType: 10, dims: [1], int32Data: [0x3c00] },
      );
    });
    const { initializers } = readModel(bytes).graph;
    assert.deepEqual(initializers.get("f")?.data, Float32Array.of(1.5, -2));
    assert.deepEqual(initializers.get("i")?.data, BigInt64Array.of(-3n, 4n));
    assert.deepEqual(initializers.get("b")?.data, Uint8Array.of(1));
    assert.deepEqual(initializers.get("d")?.data, Float64Array.of(0.1));
    assert.deepEqual(initializers.get("u")?.data, Uint32Array.of(7));
    assert.deepEqual(initializers.get("h")?.data, Uint16Array.of(0x3c00));
  });

  test("gives nodes without a name, or with a second-hand one, names of their own", () => {
    const bytes = changed(({ graph }) =>
      graph?.node?.forEach((node) => (node.name = "same")),
    );
    const names = readModel(bytes).graph.nodes.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
  });
});

const dataTypes = [
  "float32",
  "int64",
  "int32",
  "uint8",
  "bool",
  "float64",
  "float16",
] as const;

/** Tensors of every type with up to three dimensions, empty ones included. */
const tensors: fc.Arbitrary<Tensor> = fc
  .tuple(
    fc.constantFrom(...dataTypes),
    fc.array(fc.nat(3), { maxLength: 3 }),
    fc.integer(),
  )
  .map(([dataType, dims, seed]) => {
    const length = dims.reduce((product, dim) => product * dim, 1);
    const numbers = Array.from({ length }, (_, i) => (seed + i * 37) % 200);
    switch (dataType) {
      case "float32":
        return {
          dataType,
          dims,
          data: Float32Array.from(numbers, (x) => x / 7),
        };
      case "float64":
        return {
          dataType,
          dims,
          data: Float64Array.from(numbers, (x) => x / 7),
        };
      case "int64":
        return { dataType, dims, data: BigInt64Array.from(numbers, BigInt) };
      case "int32":
        return { dataType, dims, data: Int32Array.from(numbers) };
      case "float16":
        return { dataType, dims, data: Uint16Array.from(numbers) };
      case "uint8":
      case "bool":
        return { dataType, dims, data: Uint8Array.from(numbers, (x) => x & 1) };
    }
  });

describe("writeModel", () => {
  test("gives back every tensor, attribute and dimension that was written", () => {
    fc.assert(
      fc.property(
        fc.array(tensors, { maxLength: 4 }),
        fc.integer(),
        fc.float({ noNaN: true }),
        (list, i, f) => {
          const g = new GraphBuilder("g");
          const x = g.input("x", "float32", ["batch", 3]);
          list.forEach((tensor, at) => g.constant(tensor, `t${at}`));
          const y = g.op("Identity", [x], {
            i: int(i),
            f: float(f),
            s: string("größe"),
            list: ints(1, -2, 2 ** 40),
            tensor: {
              type: "tensor",
              value: list[0] ?? {
                dataType: "float32",
                dims: [],
                data: new Float32Array(1),
              },
            },
            floats: { type: "floats", value: [0.5, -1] },
            strings: { type: "strings", value: ["a", ""] },
          });
          g.output(y, "float32", ["batch", 3], "y");
          const model: Model = {
            graph: g.build(),
            opset: 17,
            irVersion: 8,
            metadata: { b: "2", a: "1" },
          };
          const bytes = writeModel(model);
          const read = readModel(bytes);
          // Attributes and metadata come back in the order of their names.
          assert.deepEqual(sorted(read), sorted(model));
          assert.deepEqual(writeModel(read), bytes);
        },
      ),
      { seed: 3, numRuns: 100 },
    );
  });

  test("gives the same bytes whatever the order of attributes", () => {
    const withAttributes = (attributes: Parameters<GraphBuilder["op"]>[2]) => {
      const g = new GraphBuilder("g");
      const x = g.input("x", "float32", ["batch", 2]);
      g.output(
        g.op(
          "Gemm",
          [
            x,
            g.constant({
              dataType: "float32",
              dims: [2, 2],
              data: new Float32Array(4),
            }),
          ],
          attributes,
        ),
        "float32",
        ["batch", 2],
      );
      return writeModel({
        graph: g.build(),
        opset: 17,
        irVersion: 8,
        metadata: {},
      });
    };
    assert.deepEqual(
      withAttributes({ transA: int(0), alpha: float(2) }),
      withAttributes({ alpha: float(2), transA: int(0) }),
    );
  });
});

function sorted({ graph, metadata, ...rest }: Model): unknown {
  const byKey = (record: Readonly<Record<string, unknown>>) =>
    Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
  // float32 attributes: the builder's double was rounded on the way.
  const rounded = (value: unknown) =>
    typeof value === "number" && !Number.isInteger(value)
      ? Math.fround(value)
      : value;
  return {
    ...rest,
    metadata: byKey(metadata),
    graph: {
      ...graph,
      nodes: graph.nodes.map((node) => ({
        ...node,
        attributes: byKey(node.attributes).map(([key, a]) => [
          key,
          (a as { type: string }).type,
          rounded((a as { value: unknown }).value),
        ]),
      })),
    },
  };
}
