import type { RandomStream } from "#core/random";
import type { CameraLook } from "./camera-look.js";
import type { DomainLook } from "./domain-look.js";

const noiseTableSize = 1 << 16;

/** Normal deviates made once: drawing 25,000 a crop anew costs more than painting the figure. */
export function createNoiseTable(random: RandomStream): Float32Array {
  return Float32Array.from({ length: noiseTableSize }, () => random.normal());
}

/** One crop's way through lens and sensor. */
export interface Exposure {
  readonly camera: CameraLook;
  readonly look: DomainLook;
  readonly noise: Float32Array;
  readonly random: RandomStream;
}

/**
 * Blurs, tints, casts and adds noise, in this order.
 *
 * @param pixels  RGBA uint8 [H, W, 4], changed in place; alpha stays
 */
export function expose(
  pixels: Uint8ClampedArray,
  widthPx: number,
  heightPx: number,
  { camera, look, noise, random }: Exposure,
): void {
  const scale = heightPx / 64;
  const sigmaPx = camera.blurPx * scale * random.between(0.6, 1.4);
  blur(pixels, widthPx, heightPx, sigmaPx);
  const exposure = camera.exposure * Math.exp(random.normal() * look.exposure);
  const tables = camera.gains.map((gain) =>
    Float32Array.from(
      { length: 256 },
      (_, level) =>
        255 *
          Math.min(1, (level / 255) * gain * exposure) ** look.gamma *
          (1 - look.lift / 255) +
        look.lift,
    ),
  );
  const [red, green, blue] = tables;
  // Fine noise averages out when a crop is scaled down; this keeps half of it at 64 pixels' height.
  const amplitude = camera.noise * Math.sqrt(scale);
  let at = random.below(noiseTableSize);
  for (let i = 0; i < pixels.length; i += 4) {
    pixels[i] = red[pixels[i]] + amplitude * noise[at++ & (noiseTableSize - 1)];
    pixels[i + 1] =
      green[pixels[i + 1]] + amplitude * noise[at++ & (noiseTableSize - 1)];
    pixels[i + 2] =
      blue[pixels[i + 2]] + amplitude * noise[at++ & (noiseTableSize - 1)];
  }
}

/** Gaussian by repeated binomial steps: each pass (a, 1 − 2a, a) adds 2a to the variance. */
function blur(
  pixels: Uint8ClampedArray,
  widthPx: number,
  heightPx: number,
  sigmaPx: number,
): void {
  const variance = sigmaPx * sigmaPx;
  if (variance < 0.01) return;
  const passes = Math.ceil(variance / 0.5);
  const share = variance / passes / 2;
  for (let pass = 0; pass < passes; pass++) {
    for (let y = 0; y < heightPx; y++)
      blurLine(
        pixels,
        { start: y * widthPx * 4, step: 4, count: widthPx },
        share,
      );
    for (let x = 0; x < widthPx; x++)
      blurLine(
        pixels,
        { start: x * 4, step: widthPx * 4, count: heightPx },
        share,
      );
  }
}

interface Line {
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

function blurLine(
  pixels: Uint8ClampedArray,
  { start, step, count }: Line,
  share: number,
): void {
  const keep = 1 - 2 * share;
  for (let channel = 0; channel < 3; channel++) {
    let at = start + channel;
    let before = pixels[at];
    for (let i = 0; i < count; i++, at += step) {
      const here = pixels[at];
      const after = i + 1 < count ? pixels[at + step] : here;
      pixels[at] = keep * here + share * (before + after);
      before = here;
    }
  }
}
