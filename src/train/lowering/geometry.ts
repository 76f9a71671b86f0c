import { assert } from "#core/errors";
import type { Node, ValueInfo } from "#onnx/graph";

/** A two-dimensional convolution with every attribute written out. */
export interface Geometry {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** top, left, bottom, right */
  readonly pads: readonly number[];
  readonly group: number;
}

/** Reads the attributes of a `reid.gradient` convolution. */
export function geometryOf({ attributes }: Node): Geometry {
  const list = (name: string): readonly number[] => {
    const attribute = attributes[name];
    assert(attribute?.type === "ints", `a convolution's gradient has ${name}`);
    return attribute.value;
  };
  const { group } = attributes;
  assert(group?.type === "int", "a convolution's gradient has group");
  return {
    kernel: list("kernel"),
    strides: list("strides"),
    dilations: list("dilations"),
    pads: list("pads"),
    group: group.value,
  };
}

/** Sizes from an axis on, which are known for all but the batch. */
export function sizes(v: ValueInfo, from = 0): number[] {
  return v.dims.slice(from).map((dim) => {
    assert(typeof dim === "number", `size "${dim}" of "${v.name}" is known`);
    return dim;
  });
}
