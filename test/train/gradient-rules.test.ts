import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { GraphBuilder, int } from "#onnx/builder";
import type { Model } from "#onnx/graph";
import { gradientRules } from "#train/autodiff";
import { prepareEncoder } from "#train/parameter-layout";

const operators = Object.keys(gradientRules);

describe("gradientRules", () => {
  test("has a case of central differences for every operator", async () => {
    const folder = fileURLToPath(
      new URL("../../../test/train/autodiff", import.meta.url),
    );
    const cases: string[] = [];
    for (const file of await readdir(folder)) {
      if (!file.endsWith(".gradient.test.ts")) continue;
      const text = await readFile(join(folder, file), "utf8");
      // A row of the file's table, `Op: …`, that is not an empty list.
      for (const [, op] of text.matchAll(/^ {2}(\w+):(?!\s*\[\s*\])/gm))
        cases.push(op);
    }
    assert.deepEqual(
      operators.filter((op) => !cases.includes(op)),
      [],
    );
  });

  test("names an operator without a rule, its node, and every rule there is", () => {
    const rules = [...operators].sort();
    assert.ok(!rules.includes("Sign"));
    assert.throws(
      () => prepareEncoder(encoder("behind the weight"), settings),
      {
        name: "NoGradientRuleError",
        code: "NO_GRADIENT_RULE",
        kind: "unimplemented",
        facts: { op: "Sign", node: "signs", rules: rules.join(" ") },
        message:
          'operator Sign of node "signs" has no gradient rule: ' +
          `express it by operators that have one (${rules.join(", ")})`,
      },
    );
  });

  test("asks for no rule where no parameter is before the operator", () => {
    const { layout } = prepareEncoder(encoder("before the weight"), settings);
    assert.deepEqual(
      layout.groups.get("shared")?.trained.map(({ name }) => name),
      ["weight"],
    );
  });
});

const settings = {
  heightPx: 2,
  widthPx: 2,
  domainSpecificBatchNorm: false,
  featureBias: "trained",
} as const;

/** One weight and the operator Sign, which has no rule. */
function encoder(place: "before the weight" | "behind the weight"): Model {
  const g = new GraphBuilder("encoder");
  const image = g.input("image", "float32", ["batch", 3, 2, 2]);
  const flat = g.op("Flatten", [image], { axis: int(1) });
  const weight = g.initializer("weight", {
    dataType: "float32",
    dims: [12],
    data: new Float32Array(12).fill(0.5),
  });
  const signs = (x: string) => g.op("Sign", [x], {}, "signs");
  const feature =
    place === "before the weight"
      ? g.op("Mul", [signs(flat), weight])
      : signs(g.op("Mul", [flat, weight]));
  g.output(feature, "float32", ["batch", 12], "feature");
  return { graph: g.build(), opset: 17, irVersion: 8, metadata: {} };
}
