import type { Tensor, ValueInfo } from "#onnx/graph";
import type { GradientBuilder } from "../autodiff/gradient-builder.js";
import { type Geometry, sizes } from "./geometry.js";

const TILE = 4;
const KERNEL = 3;
const PATCH = TILE + KERNEL - 1;
const PRODUCTS = PATCH * PATCH;
const POINTS = [0, 1, -1, 0.5, -2];

/** Fewer channels make the products too thin to be fast. */
const LEAST_CHANNELS = 32;

/** How many times fewer multiplications tiling must need, since its passes over memory are more. */
const LEAST_GAIN = 1.5;

/**
 * Whether tiling pays for a convolution.
 *
 * @param x  [B, C, H, W]
 * @param y  [B, O, OH, OW]
 */
export function isTiled(
  { kernel, strides, dilations, group }: Geometry,
  x: ValueInfo,
  y: ValueInfo,
): boolean {
  const isPlain =
    group === 1 &&
    kernel.length === 2 &&
    kernel.every((size) => size === KERNEL) &&
    [...strides, ...dilations].every((step) => step === 1);
  if (!isPlain) return false;
  const [channels, height, width] = sizes(x, 1);
  const [outChannels, outHeight, outWidth] = sizes(y, 1);
  const inputs = height * width;
  const outputs = outHeight * outWidth;
  const products = PRODUCTS * tilesOf(outHeight) * tilesOf(outWidth);
  const plain = KERNEL * KERNEL * outputs * channels * outChannels;
  const tiled =
    products *
    (channels * outChannels + inputs * channels + outputs * outChannels);
  return (
    Math.min(channels, outChannels) >= LEAST_CHANNELS &&
    plain >= LEAST_GAIN * tiled
  );
}

/** The three constant matrices of a tiling. */
interface Transforms {
  /** [36·T, H·W] */
  readonly input: Tensor;
  /** [OH·OW, 36·T] */
  readonly output: Tensor;
  /** [36, 9] */
  readonly kernel: Tensor;
}

/**
 * Minimal filtering of 3 × 3 convolutions over small maps: tiles of 4 × 4 outputs from 6 × 6 inputs cost 36 products
 * a pair of channels where the plain form costs 144.
 *
 *     y = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ x B) ] A        for each tile, products summed over channels
 *
 * Tiling, padding and Bᵀ · B of a whole map are linear in its pixels, so they are one constant matrix, `input`
 * [36·T, H·W] for T tiles; likewise `output` [OH·OW, 36·T] and `kernel` [36, 9]. Everything is then a product of
 * matrices, and the gradients are the same products transposed:
 *
 *     V = input · xᵀ,  U = kernel · wᵀ,  M_k = V_k · U_kᵀ,  y = Mᵀ · outputᵀ
 *     M̄ = outputᵀ · ȳᵀ,  V̄_k = M̄_k · U_k,  x̄ = V̄ᵀ · input,  Ū_k = M̄_kᵀ · V_k,  w̄ = Ūᵀ · kernel
 *
 * V, U and M̄ are each used twice and made once (`withoutRepeats`). Source: Winograd 1980, Arithmetic Complexity of
 * Computations; Lavin and Gray 2015, arXiv:1509.09308. Points of interpolation 0, ±1, ½, −2 and ∞: the error is
 * two thirds of that with ±2 (measured: 2·10⁻⁶ of the result at 512 channels, a plain sum's is 4·10⁻⁷).
 */
export class TiledConvolution {
  readonly #g: GradientBuilder;
  readonly #x: ValueInfo;
  readonly #y: ValueInfo;
  readonly #channels: number;
  readonly #outChannels: number;
  readonly #tiles: number;
  readonly #input: ValueInfo;
  readonly #output: ValueInfo;
  readonly #kernel: ValueInfo;

  /**
   * @param x  [B, C, H, W], for its shape
   * @param y  [B, O, OH, OW], for its shape
   */
  constructor(
    { pads: [top, left] }: Geometry,
    x: ValueInfo,
    y: ValueInfo,
    g: GradientBuilder,
  ) {
    const [channels, height, width] = sizes(x, 1);
    const [outChannels, outHeight, outWidth] = sizes(y, 1);
    const matrices = transformsOf({
      rows: { size: height, outSize: outHeight, pad: top },
      columns: { size: width, outSize: outWidth, pad: left },
    });
    this.#g = g;
    this.#x = x;
    this.#y = y;
    this.#channels = channels;
    this.#outChannels = outChannels;
    this.#tiles = tilesOf(outHeight) * tilesOf(outWidth);
    this.#input = g.constant(matrices.input);
    this.#output = g.constant(matrices.output);
    this.#kernel = g.constant(matrices.kernel);
  }

  /** x [B, C, H, W], w [O, C, 3, 3] → y [B, O, OH, OW] */
  forward(x: ValueInfo, w: ValueInfo): ValueInfo {
    const g = this.#g;
    const products = g.matMul(
      this.#inputTiles(x),
      this.#kernelTiles(w),
      "right",
    );
    return g.reshape(
      g.matMul(this.#joined(products), this.#output, "both"),
      this.#y.dims,
    );
  }

  /** ȳ [B, O, OH, OW], w [O, C, 3, 3] → x̄ [B, C, H, W] */
  inputGradient(dy: ValueInfo, w: ValueInfo): ValueInfo {
    const g = this.#g;
    const tiles = g.matMul(this.#outputTiles(dy), this.#kernelTiles(w));
    return g.reshape(
      g.matMul(this.#joined(tiles), this.#input, "left"),
      this.#x.dims,
    );
  }

  /** x [B, C, H, W], ȳ [B, O, OH, OW] → w̄ [O, C, 3, 3] */
  weightGradient(x: ValueInfo, dy: ValueInfo): ValueInfo {
    const g = this.#g;
    const pairs = g.matMul(this.#outputTiles(dy), this.#inputTiles(x), "left");
    const [channels, outChannels] = [this.#channels, this.#outChannels];
    return g.reshape(
      g.matMul(
        g.reshape(pairs, [PRODUCTS, outChannels * channels]),
        this.#kernel,
        "left",
      ),
      [outChannels, channels, KERNEL, KERNEL],
    );
  }

  /** V [36, T·B, C] */
  #inputTiles(x: ValueInfo): ValueInfo {
    const g = this.#g;
    const tiles = g.matMul(this.#input, planesOf(x, g), "right");
    return g.reshape(tiles, [PRODUCTS, "tiles", this.#channels]);
  }

  /** U [36, O, C] */
  #kernelTiles(w: ValueInfo): ValueInfo {
    const g = this.#g;
    const [outChannels, channels] = sizes(w);
    const pairs = g.reshape(w, [outChannels * channels, KERNEL * KERNEL]);
    return g.reshape(g.matMul(this.#kernel, pairs, "right"), [
      PRODUCTS,
      outChannels,
      channels,
    ]);
  }

  /** M̄ [36, T·B, O] */
  #outputTiles(dy: ValueInfo): ValueInfo {
    const g = this.#g;
    const tiles = g.matMul(this.#output, planesOf(dy, g), "both");
    return g.reshape(tiles, [PRODUCTS, "tiles", this.#outChannels]);
  }

  /** [36, T·B, n] → [36·T, B·n] */
  #joined(tiles: ValueInfo): ValueInfo {
    return this.#g.reshape(tiles, [PRODUCTS * this.#tiles, "planes"]);
  }
}

/** [B, C, H, W] → [B·C, H·W] */
function planesOf(v: ValueInfo, g: GradientBuilder): ValueInfo {
  const [, height, width] = sizes(v, 1);
  return g.reshape(v, ["planes", height * width]);
}

function tilesOf(outSize: number): number {
  return Math.ceil(outSize / TILE);
}

/** One spatial axis. */
interface Axis {
  readonly size: number;
  readonly outSize: number;
  /** Zeros before it. */
  readonly pad: number;
}

/** The same tensor object for the same shape, so that equal products are known to be equal. */
const known = new Map<string, Transforms>();

function transformsOf(axes: {
  readonly rows: Axis;
  readonly columns: Axis;
}): Transforms {
  const key = JSON.stringify(axes);
  const made = known.get(key) ?? makeTransforms(axes);
  known.set(key, made);
  return made;
}

function makeTransforms({
  rows,
  columns,
}: {
  readonly rows: Axis;
  readonly columns: Axis;
}): Transforms {
  const [acrossRows, acrossColumns] = [
    tilesOf(rows.outSize),
    tilesOf(columns.outSize),
  ];
  const tiles = acrossRows * acrossColumns;
  const inputs = rows.size * columns.size;
  const outputs = rows.outSize * columns.outSize;
  const width = PRODUCTS * tiles;
  const input = new Float32Array(width * inputs);
  const output = new Float32Array(outputs * width);
  const kernel = new Float32Array(PRODUCTS * KERNEL * KERNEL);
  const { a, b, g } = filterMatrices;
  for (let i = 0; i < PATCH; i++)
    for (let j = 0; j < PATCH; j++) {
      const product = i * PATCH + j;
      outer(g[i], g[j], (p, q, value) => {
        kernel[(product * KERNEL + p) * KERNEL + q] = value;
      });
      for (let tile = 0; tile < tiles; tile++) {
        const row = product * tiles + tile;
        const top = TILE * Math.floor(tile / acrossColumns);
        const left = TILE * (tile % acrossColumns);
        outer(b[i], b[j], (p, q, value) => {
          const [r, c] = [top - rows.pad + p, left - columns.pad + q];
          if (r >= 0 && r < rows.size && c >= 0 && c < columns.size)
            input[row * inputs + r * columns.size + c] = value;
        });
        outer(a[i], a[j], (p, q, value) => {
          const [r, c] = [top + p, left + q];
          if (r < rows.outSize && c < columns.outSize)
            output[(r * columns.outSize + c) * width + row] = value;
        });
      }
    }
  return {
    input: matrix(width, inputs, input),
    output: matrix(outputs, width, output),
    kernel: matrix(PRODUCTS, KERNEL * KERNEL, kernel),
  };
}

function matrix(
  rows: number,
  columns: number,
  data: Float32Array<ArrayBuffer>,
): Tensor {
  return { dataType: "float32", dims: [rows, columns], data };
}

function outer(
  rows: readonly number[],
  columns: readonly number[],
  put: (row: number, column: number, value: number) => void,
): void {
  rows.forEach((r, i) => columns.forEach((c, j) => put(i, j, r * c)));
}

/** For each of the six products: its column of Aᵀ [4], its row of Bᵀ [6], its row of G [3]. */
const filterMatrices = cookToom();

/** Multiplying polynomials by their values at POINTS and their leading coefficient (∞), for one axis. */
function cookToom(): Readonly<Record<"a" | "b" | "g", readonly number[][]>> {
  const powers = (x: number, count: number) =>
    Array.from({ length: count }, (_, i) => x ** i);
  const last = (count: number) =>
    Array.from({ length: count }, (_, i) => (i === count - 1 ? 1 : 0));
  const others = POINTS.map((x) => POINTS.filter((point) => point !== x));
  return {
    a: [...POINTS.map((x) => powers(x, TILE)), last(TILE)],
    b: [
      ...others.map((roots) => [...polynomial(roots), 0]),
      polynomial(POINTS),
    ],
    g: [
      ...POINTS.map((x, k) => {
        const scale = others[k].reduce(
          (product, point) => product * (x - point),
          1,
        );
        return powers(x, KERNEL).map((power) => power / scale);
      }),
      last(KERNEL),
    ],
  };
}

/** Coefficients of Π (x − root), the constant first. */
function polynomial(roots: readonly number[]): number[] {
  return roots.reduce<number[]>(
    (product, root) =>
      [0, ...product].map((above, i) => above - root * (product[i] ?? 0)),
    [1],
  );
}
