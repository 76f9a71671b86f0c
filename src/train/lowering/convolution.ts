import { int, ints } from "#onnx/builder";
import type { Node, ValueInfo } from "#onnx/graph";
import { GRADIENT_DOMAIN } from "../autodiff/convolution.js";
import type { GradientBuilder } from "../autodiff/gradient-builder.js";
import { type Geometry, geometryOf, sizes } from "./geometry.js";
import type { Lowering } from "./lowering-rule.js";
import { isTiled, TiledConvolution } from "./winograd.js";

/** The gradients of a convolution. */
export type LoweredConvolution =
  "ConvForward" | "ConvInputGradient" | "ConvWeightGradient";

export const convolutionLowerings: Readonly<
  Record<LoweredConvolution, Lowering>
> = {
  // (x [B, C, H, W], w [O, C, kh, kw], bias? [O]) → y [B, O, OH, OW]: what `smallConvolution` makes
  ConvForward: ({ node, inputs: [x, w, bias], outputs: [y] }, g) => {
    const geometry = geometryOf(node);
    const product = isTiled(geometry, x, y)
      ? new TiledConvolution(geometry, x, y, g).forward(x, w)
      : productConvolution([x, w, y], geometry, g);
    return [
      bias === undefined
        ? product
        : g.add(product, g.reshape(bias, [bias.dims[0], 1, 1])),
    ];
  },

  // (dy [B, O, OH, OW], w [O, C/g, kh, kw], x [B, C, H, W] for its shape) → dx [B, C, H, W]
  ConvInputGradient: ({ node, inputs: [dy, w, x] }, g) => {
    const geometry = geometryOf(node);
    if (isTiled(geometry, x, dy))
      return [new TiledConvolution(geometry, x, dy, g).inputGradient(dy, w)];
    const isStrideOne = geometry.strides.every((stride) => stride === 1);
    const reach = geometry.kernel.map(
      (size, i) => (size - 1) * geometry.dilations[i],
    );
    const isPaddedWithin = geometry.pads.every((pad, i) => pad <= reach[i % 2]);
    return [
      isStrideOne && isPaddedWithin
        ? flippedConvolution([dy, w, x], geometry, g)
        : transposedConvolution([dy, w, x], geometry, g),
    ];
  },

  // (x [B, C, H, W], dy [B, O, OH, OW]) → dw [O, C/g, kh, kw]
  ConvWeightGradient: ({ node, inputs: [x, dy] }, g) => {
    const geometry = geometryOf(node);
    return [
      isTiled(geometry, x, dy)
        ? new TiledConvolution(geometry, x, dy, g).weightGradient(x, dy)
        : weightGradient(x, dy, geometry, g),
    ];
  },
};

/** Positions of a crop below which a product over the whole batch is faster than one a crop. */
const NARROW_POSITIONS = 64;

/** A Conv of the forward pass as a ConvForward, where a product over the whole batch is faster than one a crop. */
export function smallConvolution(
  node: Node,
  values: ReadonlyMap<string, ValueInfo>,
): Node | undefined {
  const { opType, domain, attributes, inputs, outputs } = node;
  const [x, w] = inputs.map((name) => values.get(name));
  const y = values.get(outputs[0]);
  if (opType !== "Conv" || domain !== "" || !x || !w || !y) return undefined;
  const { group, auto_pad: autoPad, strides, dilations, pads } = attributes;
  const isPlain =
    (group?.type !== "int" || group.value === 1) &&
    (autoPad?.type !== "string" || autoPad.value === "NOTSET");
  if (!isPlain || w.dims.length !== 4) return undefined;
  const written: Node = {
    ...node,
    opType: "ConvForward",
    domain: GRADIENT_DOMAIN,
    attributes: {
      kernel: ints(...sizes(w, 2)),
      strides: strides ?? ints(1, 1),
      dilations: dilations ?? ints(1, 1),
      pads: pads ?? ints(0, 0, 0, 0),
      group: int(1),
    },
  };
  return isNarrow(y) || isTiled(geometryOf(written), x, y)
    ? written
    : undefined;
}

/** Whether a convolution's output [B, O, H, W] has few positions a crop. */
function isNarrow({ dims }: ValueInfo): boolean {
  const [height, width] = dims.slice(2);
  return (
    typeof height === "number" &&
    typeof width === "number" &&
    height * width <= NARROW_POSITIONS
  );
}

/** A convolution with the kernel turned round and its channels swapped: up to 3× faster than ConvTranspose. */
function flippedConvolution(
  [dy, w, x]: readonly ValueInfo[],
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
  const turned = pads.map((pad, i) => reach[i % 2] - pad);
  if (group === 1 && isNarrow(x))
    return productConvolution(
      [dy, flipped, x],
      { kernel, strides: [1, 1], dilations, pads: turned, group },
      g,
    );
  return g.emit(
    "Conv",
    [dy, flipped],
    { dims: x.dims },
    {
      attributes: {
        kernel_shape: ints(...kernel),
        dilations: ints(...dilations),
        pads: ints(...turned),
        group: int(group),
      },
    },
  );
}

function transposedConvolution(
  [dy, w, x]: readonly ValueInfo[],
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
  const [channels, height, width] = sizes(x, 1);
  const [outChannels, outHeight, outWidth] = sizes(dy, 1);
  const positions = outHeight * outWidth;
  const [kh, kw] = kernel;
  // One product over batch and positions wants channels in front: two copies, of x and dy. A product a crop wants
  // none, but then the sum over crops reads and writes a gradient for each crop.
  const copied = channels * height * width + outChannels * positions;
  const summed = outChannels * channels * kh * kw;
  if (group > 1) return groupedWeightGradient(x, dy, geometry, g);
  return summed > copied
    ? weightGradientAtOnce(x, dy, geometry, g)
    : weightGradientByCrop(x, dy, geometry, g);
}

/** dw = dy [O, OH·OW·B] · columns [kh·kw·C, OH·OW·B]ᵀ */
function weightGradientAtOnce(
  x: ValueInfo,
  dy: ValueInfo,
  geometry: Geometry,
  g: GradientBuilder,
): ValueInfo {
  const [channels] = sizes(x, 1);
  const [outChannels, outHeight, outWidth] = sizes(dy, 1);
  const [kh, kw] = geometry.kernel;
  if (isPointwise(geometry)) {
    // No views to cut, so the batch may stay in the middle: planes are copied whole.
    const [left, right] = [dy, x].map((v) => g.transpose(v, [1, 0, 2, 3]));
    return g.reshape(
      g.matMul(
        flattened(left, outChannels, g),
        flattened(right, channels, g),
        "right",
      ),
      [outChannels, channels, 1, 1],
    );
  }
  const columns = batchColumns(x, [outHeight, outWidth], geometry, g);
  const rows = flattened(g.transpose(dy, [1, 2, 3, 0]), outChannels, g);
  return channelsFirst(
    g.matMul(rows, columns, "right"),
    [outChannels, channels, kh, kw],
    g,
  );
}

/** Whether every output position reads just the input position it lies on. */
function isPointwise({ kernel, strides, pads }: Geometry): boolean {
  return (
    [...kernel, ...strides].every((n) => n === 1) &&
    pads.every((pad) => pad === 0)
  );
}

/**
 * A convolution as one product over batch and positions: w [O, kh·kw·C] · columns [kh·kw·C, OH·OW·B].
 *
 * onnxruntime's Conv makes a product a crop, which is narrow and slow where a crop has few positions.
 */
function productConvolution(
  [x, w, { dims }]: readonly ValueInfo[],
  geometry: Geometry,
  g: GradientBuilder,
): ValueInfo {
  const [outChannels, channels, kh, kw] = sizes(w);
  const [batch, , outHeight, outWidth] = dims;
  const positions = [Number(outHeight), Number(outWidth)];
  const columns = batchColumns(x, positions, geometry, g);
  const apart = g.transpose(
    g.reshape(w, [outChannels, channels, kh * kw]),
    [0, 2, 1],
  );
  const product = g.matMul(
    g.reshape(apart, [outChannels, kh * kw * channels]),
    columns,
  );
  return g.transpose(
    g.reshape(product, [outChannels, ...positions, batch]),
    [3, 0, 1, 2],
  );
}

/** [kh·kw·C, OH·OW·B]: with the batch innermost every shifted view is made of long contiguous runs. */
function batchColumns(
  x: ValueInfo,
  [outHeight, outWidth]: readonly number[],
  geometry: Geometry,
  g: GradientBuilder,
): ValueInfo {
  const [channels] = sizes(x, 1);
  const [kh, kw] = geometry.kernel;
  const views = kernelViews(
    g.transpose(x, [1, 2, 3, 0]),
    [outHeight, outWidth],
    { ...geometry, axis: 1 },
    g,
  );
  return flattened(g.concat(views, 0), kh * kw * channels, g);
}

/** [rows, everything else] */
function flattened(v: ValueInfo, rows: number, g: GradientBuilder): ValueInfo {
  return g.emit("Reshape", [v, g.ints([rows, -1])], {
    dims: [rows, "positions"],
  });
}

/** dw = Σ_b dy [O, OH·OW] · columns [kh·kw·C, OH·OW]ᵀ */
function weightGradientByCrop(
  x: ValueInfo,
  dy: ValueInfo,
  geometry: Geometry,
  g: GradientBuilder,
): ValueInfo {
  const [batch] = x.dims;
  const [channels] = sizes(x, 1);
  const [outChannels, outHeight, outWidth] = sizes(dy, 1);
  const positions = outHeight * outWidth;
  const [kh, kw] = geometry.kernel;
  const views = kernelViews(x, [outHeight, outWidth], geometry, g);
  const columns = g.reshape(g.concat(views, 1), [
    batch,
    kh * kw * channels,
    positions,
  ]);
  const rows = g.reshape(dy, [batch, outChannels, positions]);
  const total = g.sum(g.matMul(rows, columns, "right"), [0]);
  return channelsFirst(total, [outChannels, channels, kh, kw], g);
}

/** [O, kh·kw·C] → [O, C, kh, kw] */
function channelsFirst(
  gradient: ValueInfo,
  [outChannels, channels, kh, kw]: readonly number[],
  g: GradientBuilder,
): ValueInfo {
  const apart = g.reshape(gradient, [outChannels, kh * kw, channels]);
  return g.reshape(g.transpose(apart, [0, 2, 1]), [
    outChannels,
    channels,
    kh,
    kw,
  ]);
}

/** As by crop, each group's channels with their own. */
function groupedWeightGradient(
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
  const [kh, kw] = kernel;
  const views = kernelViews(x, [outHeight, outWidth], geometry, g);
  const apart = views.map((view) =>
    g.reshape(view, [batch, group, inPerGroup, positions]),
  );
  const columns = g.concat(apart, 2);
  const rows = g.reshape(dy, [batch, group, outPerGroup, positions]);
  const products = g.matMul(rows, columns, "right");
  return channelsFirst(
    g.sum(products, [0]),
    [outChannels, inPerGroup, kh, kw],
    g,
  );
}

/** x as each kernel position sees it: kh·kw values; height and width are `axis` (default 2) and the next. */
function kernelViews(
  x: ValueInfo,
  [outHeight, outWidth]: readonly number[],
  {
    kernel,
    strides,
    dilations,
    pads,
    axis = 2,
  }: Geometry & { readonly axis?: number },
  g: GradientBuilder,
): ValueInfo[] {
  const [top, left, bottom, right] = pads;
  const around = (first: number, second: number) =>
    x.dims.map((_, i) => (i === axis ? first : i === axis + 1 ? second : 0));
  const padded = g.pad(x, around(top, left), around(bottom, right));
  const views: ValueInfo[] = [];
  // Strided slices move single numbers, plain ones whole runs: first one strided slice for each phase of the strides.
  const phases = new Map<string, ValueInfo>();
  const phaseOf = (offsets: readonly number[]): ValueInfo => {
    const key = offsets.join();
    const made =
      phases.get(key) ??
      cut(padded, axis, offsets, {
        ends: offsets.map((_, k) => Number(padded.dims[axis + k])),
        steps: strides,
        g,
      });
    phases.set(key, made);
    return made;
  };
  for (let i = 0; i < kernel[0]; i++)
    for (let j = 0; j < kernel[1]; j++) {
      const starts = [i * dilations[0], j * dilations[1]];
      const within = starts.map((start, k) => Math.floor(start / strides[k]));
      views.push(
        cut(
          phaseOf(starts.map((start, k) => start % strides[k])),
          axis,
          within,
          {
            ends: [within[0] + outHeight, within[1] + outWidth],
            steps: [1, 1],
            g,
          },
        ),
      );
    }
  return views;
}

/** A slice along `axis` and the next; the value itself where that is all of it. */
function cut(
  v: ValueInfo,
  axis: number,
  starts: readonly number[],
  {
    ends,
    steps,
    g,
  }: {
    readonly ends: readonly number[];
    readonly steps: readonly number[];
    readonly g: GradientBuilder;
  },
): ValueInfo {
  const isWhole = starts.every(
    (start, k) => start === 0 && steps[k] === 1 && ends[k] === v.dims[axis + k],
  );
  return isWhole ? v : g.slice(v, [axis, axis + 1], starts, { ends, steps });
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
