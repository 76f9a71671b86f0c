import { checkGraph } from "#onnx/check";
import { readModel } from "#onnx/model";
import { createRunner } from "./engines/onnxruntime.js";
import { EncoderOutputError } from "./errors.js";

/** Batch sizes that are tried: a fixed batch inside an encoder shows with the second. */
const TRIED_BATCHES = [1, 3] as const;

/** Largest deviation of a feature's norm from 1 that float32 explains. */
const NORM_WITHIN = 1e-3;

/**
 * Runs a bundle's encoder once for each of two batch sizes and checks that unit features come out.
 *
 * @param encoder  the bytes of `encoder.onnx`: uint8 `image` [batch, H, W, 3] to float32 `feature` [batch, D]
 * @throws {EncoderOutputError} not [batch, D], not finite, or not of unit norm
 * @throws {GraphInvalidError}  the bytes hold no valid graph
 */
export async function checkServeable(
  encoder: Uint8Array,
  {
    heightPx,
    widthPx,
    dimension,
  }: {
    readonly heightPx: number;
    readonly widthPx: number;
    readonly dimension: number;
  },
): Promise<void> {
  checkGraph(readModel(encoder));
  const runner = await createRunner(encoder);
  try {
    for (const count of TRIED_BATCHES) {
      const data = testPattern(count * heightPx * widthPx * 3);
      const image = {
        dataType: "uint8" as const,
        dims: [count, heightPx, widthPx, 3],
        data,
      };
      const { feature } = await runner.run({ image });
      if (
        feature.dims[0] !== count ||
        feature.dims[1] !== dimension ||
        feature.dims.length !== 2
      )
        throw new EncoderOutputError(
          `[${feature.dims.join(", ")}] for ${count} crops`,
        );
      for (let row = 0; row < count; row++) {
        const values = Array.from(
          feature.data.slice(row * dimension, (row + 1) * dimension),
          Number,
        );
        const norm = Math.hypot(...values);
        // Written so that NaN fails. A rectified feature may be all zero for a pattern that is no picture.
        if (!(Math.abs(norm - 1) <= NORM_WITHIN) && norm !== 0)
          throw new EncoderOutputError(`features of norm ${norm}`);
      }
    }
  } finally {
    await runner.close();
  }
}

/** Pixels without meaning, the same each time (a multiplicative generator modulo 2^31 − 1; Lehmer 1949). */
function testPattern(length: number): Uint8Array {
  const data = new Uint8Array(length);
  let state = 1;
  for (let i = 0; i < length; i++) {
    state = (state * 48271) % 2147483647;
    data[i] = state >> 8;
  }
  return data;
}
