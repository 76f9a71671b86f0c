import type { RandomStream } from "#core/random";

/** Mean of the training pixels scaled to [0, 1], red, green, blue. Source: ImageNet, as torchvision has it. */
export const PIXEL_MEAN: readonly number[] = [0.485, 0.456, 0.406];

/** Their deviation. Source: ImageNet, as torchvision has it. */
export const PIXEL_DEVIATION: readonly number[] = [0.229, 0.224, 0.225];

/** Share of crops that are mirrored. */
const FLIP_PROBABILITY = 0.5;

/** Random erasing: Zhong et al. 2020, doi:10.1609/aaai.v34i07.7000; numbers of spcl-spec 3. */
const ERASING = {
  probability: 0.5,
  leastArea: 0.02,
  mostArea: 0.4,
  leastAspect: 0.3,
  tries: 100,
} as const;

/** Size of the crops, and the zeros around them before the random window. */
export interface AugmentationOptions {
  readonly heightPx: number;
  readonly widthPx: number;
  readonly padPx: number;
}

/** (value / 255 − mean) / deviation for each channel and value. */
const normalized: readonly Float32Array[] = PIXEL_MEAN.map((mean, channel) =>
  Float32Array.from(
    { length: 256 },
    (_, value) => (value / 255 - mean) / PIXEL_DEVIATION[channel],
  ),
);

/** Where each output pixel comes from: a window over the padded crop, mirrored or not. */
interface Window {
  readonly flipped: boolean;
  /** Row and column of the output's first pixel in the unpadded crop; may be negative. */
  readonly top: number;
  readonly left: number;
}

/**
 * Scales and normalizes a crop as evaluation sees it.
 *
 * @param pixels  uint8 [H, W, 3] RGB; only read
 * @param size    H and W
 * @param output  float32 [3, H, W], overwritten
 */
export function normalizeCrop(
  pixels: Uint8Array,
  size: { readonly heightPx: number; readonly widthPx: number },
  output: Float32Array,
): void {
  writeWindow(pixels, size, { flipped: false, top: 0, left: 0 }, output);
}

/**
 * Makes one training view of a crop: mirrored, shifted, normalized, partly erased.
 *
 * The erased rectangle is filled with the mean values after normalization, as the reference does
 * (yxgeee/SpCL spcl/utils/data/transforms.py, RandomErasing).
 *
 * @param pixels   uint8 [H, W, 3] RGB; only read
 * @param options  H, W and the padding
 * @param stream   this view's own numbers
 * @param output   float32 [3, H, W], overwritten
 */
export function augmentCrop(
  pixels: Uint8Array,
  options: AugmentationOptions,
  stream: RandomStream,
  output: Float32Array,
): void {
  const { padPx } = options;
  const window: Window = {
    flipped: stream.uniform() < FLIP_PROBABILITY,
    top: stream.below(2 * padPx + 1) - padPx,
    left: stream.below(2 * padPx + 1) - padPx,
  };
  writeWindow(pixels, options, window, output);
  eraseRectangle(options, stream, output);
}

function writeWindow(
  pixels: Uint8Array,
  size: { readonly heightPx: number; readonly widthPx: number },
  window: Window,
  output: Float32Array,
): void {
  const { heightPx, widthPx } = size;
  const plane = heightPx * widthPx;
  for (let channel = 0; channel < 3; channel++) {
    const table = normalized[channel];
    const zero = table[0];
    for (let y = 0; y < heightPx; y++) {
      const row = channel * plane + y * widthPx;
      const fromY = y + window.top;
      if (fromY < 0 || fromY >= heightPx) {
        output.fill(zero, row, row + widthPx);
        continue;
      }
      for (let x = 0; x < widthPx; x++) {
        const at = x + window.left;
        const fromX = window.flipped ? widthPx - 1 - at : at;
        output[row + x] =
          at < 0 || at >= widthPx
            ? zero
            : table[pixels[(fromY * widthPx + fromX) * 3 + channel]];
      }
    }
  }
}

function eraseRectangle(
  { heightPx, widthPx }: AugmentationOptions,
  stream: RandomStream,
  output: Float32Array,
): void {
  if (stream.uniform() >= ERASING.probability) return;
  for (let attempt = 0; attempt < ERASING.tries; attempt++) {
    const area =
      stream.between(ERASING.leastArea, ERASING.mostArea) * heightPx * widthPx;
    const aspect = stream.between(ERASING.leastAspect, 1 / ERASING.leastAspect);
    const height = Math.round(Math.sqrt(area * aspect));
    const width = Math.round(Math.sqrt(area / aspect));
    if (height >= heightPx || width >= widthPx) continue;
    const top = stream.below(heightPx - height + 1);
    const left = stream.below(widthPx - width + 1);
    for (let channel = 0; channel < 3; channel++)
      for (let y = top; y < top + height; y++) {
        const row = (channel * heightPx + y) * widthPx + left;
        output.fill(PIXEL_MEAN[channel], row, row + width);
      }
    return;
  }
}
