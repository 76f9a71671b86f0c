import { describe, test } from "node:test";

import { contrastiveLoss, HybridMemory } from "#memory/hybrid-memory";

import { assertClose } from "../support/close.js";
import { goldenCases } from "../support/golden.js";

/** test/golden/README.md: memory, loss and grad_features 1e-5 absolute. */
const TOLERANCE = { abs: 1e-5 };

interface MemoryCase {
  readonly num_source_classes: number;
  readonly dim: number;
  readonly momentum: number;
  readonly temperature: number;
  readonly memory: readonly number[];
  readonly labels: readonly number[];
  readonly features: readonly number[];
  readonly indexes: readonly number[];
  readonly loss?: number;
  readonly grad_features?: readonly number[];
  readonly memory_after?: readonly number[];
}

const cases = goldenCases<MemoryCase>("hybrid_memory.json");

describe("hybrid memory against the reference", () => {
  if (cases === undefined)
    test("has cases", {
      skip: "hybrid_memory.json is not in the golden folder",
    });
  for (const [name, golden] of cases ?? []) {
    const dimension = golden.dim;
    const features = Float32Array.from(golden.features);
    const labels = Int32Array.from(golden.labels);
    const ownRows = Int32Array.from(golden.indexes);

    test(`${name}: loss and gradient of the direct form agree`, () => {
      const result = contrastiveLoss({
        rows: Float32Array.from(golden.memory),
        labels,
        features,
        ownRows,
        dimension,
        temperature: golden.temperature,
      });
      if (golden.loss !== undefined)
        assertClose([result.loss], [golden.loss], TOLERANCE);
      if (golden.grad_features !== undefined)
        assertClose(result.gradient, golden.grad_features, TOLERANCE);
    });

    test(`${name}: loss and gradient through prototypes agree`, () => {
      const memory = memoryOf(golden);
      memory.setLabels(labels);
      const result = contrastiveLoss({
        rows: memory.prototypes,
        labels: Int32Array.from({ length: memory.prototypeCount }, (_, k) => k),
        features,
        ownRows: ownRows.map((row) => memory.prototypeOf[row]),
        dimension,
        temperature: golden.temperature,
      });
      if (golden.loss !== undefined)
        assertClose([result.loss], [golden.loss], TOLERANCE);
      if (golden.grad_features !== undefined)
        assertClose(result.gradient, golden.grad_features, TOLERANCE);
    });

    test(
      `${name}: rows after the sequential update agree`,
      { skip: golden.memory_after === undefined && "no memory_after given" },
      () => {
        const memory = memoryOf(golden);
        memory.setLabels(labels);
        memory.update(ownRows, features);
        assertClose(memory.rows, golden.memory_after ?? [], TOLERANCE);
        const kept = memory.prototypes.slice();
        memory.recomputePrototypes();
        assertClose(kept, memory.prototypes, { abs: 1e-6 });
      },
    );
  }
});

function memoryOf(golden: MemoryCase): HybridMemory {
  return new HybridMemory({
    rows: Float32Array.from(golden.memory),
    dimension: golden.dim,
    sourceClasses: golden.num_source_classes,
    memoryMomentum: golden.momentum,
  });
}
