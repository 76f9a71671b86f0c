import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { randomStream } from "#core/random";
import {
  augmentCrop,
  normalizeCrop,
  PIXEL_DEVIATION,
  PIXEL_MEAN,
} from "../../src/train/augmentation.js";

const size = { heightPx: 24, widthPx: 12, padPx: 3 };
const plane = size.heightPx * size.widthPx;

/** Every pixel different from its neighbours, none 0. */
const pixels = Uint8Array.from(
  { length: plane * 3 },
  (_, i) => 1 + ((i * 37) % 255),
);

function view(key: number): Float32Array {
  const output = new Float32Array(plane * 3);
  augmentCrop(pixels, size, randomStream(1, "test", key), output);
  return output;
}

describe("normalizeCrop", () => {
  test("gives (value / 255 − mean) / deviation, channel after channel", () => {
    const output = new Float32Array(plane * 3);
    normalizeCrop(pixels, size, output);
    for (const [y, x, channel] of [
      [0, 0, 0],
      [5, 7, 1],
      [23, 11, 2],
    ]) {
      const at = y * size.widthPx + x;
      const expected =
        (pixels[at * 3 + channel] / 255 - PIXEL_MEAN[channel]) /
        PIXEL_DEVIATION[channel];
      assert.equal(output[channel * plane + at], Math.fround(expected));
    }
  });
});

describe("augmentCrop", () => {
  test("gives the same view for the same stream and another for another", () => {
    assert.deepEqual(view(3), view(3));
    assert.notDeepEqual(view(3), view(4));
  });

  test("mirrors half of the views, erases half, within the stated area", () => {
    const views = 2000;
    let erased = 0;
    let area = 0;
    for (let key = 0; key < views; key++) {
      const output = view(key);
      const filled = output
        .subarray(0, plane)
        .filter((value) => value === Math.fround(PIXEL_MEAN[0])).length;
      if (filled === 0) continue;
      erased++;
      area += filled / plane;
      assert.ok(filled <= 0.45 * plane, `erased ${filled} of ${plane}`);
    }
    assert.ok(Math.abs(erased / views - 0.5) < 0.05, `${erased} erased`);
    assert.ok(Math.abs(area / erased - 0.21) < 0.03, `mean ${area / erased}`);
  });

  test("moves the crop by at most the padding and pads with black", () => {
    const black = Math.fround((0 - PIXEL_MEAN[0]) / PIXEL_DEVIATION[0]);
    let most = 0;
    for (let key = 0; key < 200; key++) {
      const output = view(key);
      let rows = 0;
      const isBlack = (y: number) =>
        output
          .subarray(y * size.widthPx, (y + 1) * size.widthPx)
          .every((value) => value === black);
      while (rows < size.heightPx && isBlack(rows)) rows++;
      most = Math.max(most, rows);
    }
    assert.equal(most, size.padPx);
  });
});
