import { assert } from "#core/errors";
import { int, ints } from "#onnx/builder";
import type { Node, ValueInfo } from "#onnx/graph";
import type { GradientBuilder } from "../autodiff/gradient-builder.js";
import type { Lowering } from "./lowering-rule.js";

/** The gradients of a convolution. */
export type LoweredConvolution = "ConvInputGradient" | "ConvWeightGradient";

/** A two-dimensional convolution with every attribute written out. */
interface Geometry {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** top, left, bottom, right */
  readonly pads: readonly number[];
  readonly group: number;
}

export const convolutionLowerings: Readonly<
  Record<LoweredConvolution, Lowering>
> = {
  // (dy [B, O, OH, OW], w [O, C/g, kh, kw], x [B, C, H, W] for its shape) → dx [B, C, H, W]
  ConvInputGradient: ({ node, inputs: [dy, w, x] }, g) => {
    const geometry = geometryOf(node);
    const isStrideOne = geometry.strides.every((stride) => stride === 1);
    const reach = geometry.kernel.map(
      (size, i) => (size - 1) * geometry.dilations[i],
    );
    const isPaddedWithin = geometry.pads.every((pad, i) => pad <= reach[i % 2]);
    return [
      isStrideOne && isPaddedWithin
        ? flippedConvolution(dy, w, x, geometry, g)
        : transposedConvolution(dy, w, x, geometry, g),
    ];
  },

  // (x [B, C, H, W], dy [B, O, OH, OW]) → dw [O, C/g, kh, kw]
  ConvWeightGradient: ({ node, inputs: [x, dy] }, g) => [
    weightGradient(x, dy, geometryOf(node), g),
  ],
};

/** A convolution with the kernel turned round and its channels swapped: up to 3× faster than ConvTranspose. */
function flippedConvolution(
  dy: ValueInfo,
  w: ValueInfo,
  x: ValueInfo,
  { kernel, dilations, pads, group }: Geometry,
  g: GradientBuilder,
): ValueInfo {
  const [outChannels, inPerGroup] = sizes(w);
  const [kh, kw] = kernel;
  const channels = group * inPerGroup;
  const outPerGroup = outChannels / group;
  const grouped = g.reshape(w, [group, outPerGroup, inPerGroup, kh, kw]);
  const swapped = g.reshape(g.transpose(grouped, [0, 2, 1, 3, 4]), [
    channels,
    outPerGroup,
    kh,
    kw,
  ]);
  const flipped = kh * kw === 1 ? swapped : flip(swapped, [2, 3], g);
  const reach = kernel.map((size, i) => (size - 1) * dilations[i]);
  return g.emit(
    "Conv",
    [dy, flipped],
    { dims: x.dims },
    {
      attributes: {
        kernel_shape: ints(...kernel),
        dilations: ints(...dilations),
        pads: ints(...pads.map((pad, i) => reach[i % 2] - pad)),
        group: int(group),
      },
    },
  );
}

function transposedConvolution(
  dy: ValueInfo,
  w: ValueInfo,
  x: ValueInfo,
  { kernel, strides, dilations, pads, group }: Geometry,
  g: GradientBuilder,
): ValueInfo {
  const input = sizes(x, 2);
  const output = sizes(dy, 2);
  // What the last stride did not reach at the bottom and right has gradient zero.
  const padding = input.map(
    (size, i) =>
      size -
      ((output[i] - 1) * strides[i] +
        (kernel[i] - 1) * dilations[i] +
        1 -
        pads[i] -
        pads[i + 2]),
  );
  return g.emit(
    "ConvTranspose",
    [dy, w],
    { dims: x.dims },
    {
      attributes: {
        kernel_shape: ints(...kernel),
        strides: ints(...strides),
        dilations: ints(...dilations),
        pads: ints(...pads),
        output_padding: ints(...padding),
        group: int(group),
      },
    },
  );
}

/**
 * Every position of the kernel gives one shifted, strided view of x; all of them side by side times dyᵀ.
 *
 *     columns [B, g, kh·kw·C/g, OH·OW],  dw = Σ_b dy [O/g, OH·OW] · columnsᵀ
 */
function weightGradient(
  x: ValueInfo,
  dy: ValueInfo,
  geometry: Geometry,
  g: GradientBuilder,
): ValueInfo {
  const { kernel, group } = geometry;
  const [batch] = x.dims;
  const [channels] = sizes(x, 1);
  const [outChannels, outHeight, outWidth] = sizes(dy, 1);
  const inPerGroup = channels / group;
  const outPerGroup = outChannels / group;
  const positions = outHeight * outWidth;
  const views = kernelViews(x, [outHeight, outWidth], geometry, g);
  const [kh, kw] = kernel;
  if (group === 1) {
    const columns = g.reshape(g.concat(views, 1), [
      batch,
      kh * kw * channels,
      positions,
    ]);
    const rows = g.reshape(dy, [batch, outChannels, positions]);
    const products = g.matMul(rows, columns, "right");
    const total = g.reshape(g.sum(products, [0]), [
      outChannels,
      kh * kw,
      channels,
    ]);
    return g.reshape(g.transpose(total, [0, 2, 1]), [
      outChannels,
      channels,
      kh,
      kw,
    ]);
  }
  const apart = views.map((view) =>
    g.reshape(view, [batch, group, inPerGroup, positions]),
  );
  const columns = g.concat(apart, 2);
  const rows = g.reshape(dy, [batch, group, outPerGroup, positions]);
  const products = g.matMul(rows, columns, "right");
  const total = g.reshape(g.sum(products, [0]), [
    outChannels,
    kh * kw,
    inPerGroup,
  ]);
  return g.reshape(g.transpose(total, [0, 2, 1]), [
    outChannels,
    inPerGroup,
    kh,
    kw,
  ]);
}

/** x as each kernel position sees it: kh·kw values [B, C, OH, OW]. */
function kernelViews(
  x: ValueInfo,
  [outHeight, outWidth]: readonly number[],
  { kernel, strides, dilations, pads }: Geometry,
  g: GradientBuilder,
): ValueInfo[] {
  const [top, left, bottom, right] = pads;
  const padded = g.pad(x, [0, 0, top, left], [0, 0, bottom, right]);
  const views: ValueInfo[] = [];
  for (let i = 0; i < kernel[0]; i++)
    for (let j = 0; j < kernel[1]; j++) {
      const starts = [i * dilations[0], j * dilations[1]];
      const ends = [
        starts[0] + (outHeight - 1) * strides[0] + 1,
        starts[1] + (outWidth - 1) * strides[1] + 1,
      ];
      const isWhole =
        ends.every(
          (end, axis) => starts[axis] === 0 && end === padded.dims[axis + 2],
        ) && strides.every((s) => s === 1);
      views.push(
        isWhole
          ? padded
          : g.slice(padded, [2, 3], starts, { ends, steps: strides }),
      );
    }
  return views;
}

/** Reverses axes. */
function flip(
  v: ValueInfo,
  axes: readonly number[],
  g: GradientBuilder,
): ValueInfo {
  const lowest = -(2 ** 31);
  return g.emit(
    "Slice",
    [
      v,
      g.ints(axes.map(() => -1)),
      g.ints(axes.map(() => lowest)),
      g.ints(axes),
      g.ints(axes.map(() => -1)),
    ],
    { dims: v.dims },
  );
}

function geometryOf({ attributes }: Node): Geometry {
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
function sizes(v: ValueInfo, from = 0): number[] {
  return v.dims.slice(from).map((dim) => {
    assert(typeof dim === "number", `size "${dim}" of "${v.name}" is known`);
    return dim;
  });
}
