import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import sharp from "sharp";
import { ReidError } from "#core/errors";
import { realFolder, realMissing } from "../support/golden.js";
import {
  cropFromRaw,
  decodeCrop,
  defaultCropLimits,
  encodeJpeg,
  encodePng,
  resizePixels,
} from "#core/image";

/** A gradient with three different channels. */
function gradient(heightPx: number, widthPx: number) {
  const data = new Uint8Array(heightPx * widthPx * 3);
  for (let y = 0; y < heightPx; y++)
    for (let x = 0; x < widthPx; x++)
      data.set(
        [(x * 255) / widthPx, (y * 255) / heightPx, (x + y) % 256],
        3 * (y * widthPx + x),
      );
  return { data, heightPx, widthPx };
}

const refusedWith = (code: string) => (error: unknown) =>
  error instanceof ReidError && error.code === code;

describe("decodeCrop", () => {
  test("gives back the pixels of a PNG, and the format", async () => {
    const pixels = gradient(20, 30);
    const crop = await decodeCrop(await encodePng(pixels));
    assert.equal(crop.format, "png");
    assert.deepEqual([crop.heightPx, crop.widthPx], [20, 30]);
    assert.deepEqual(new Uint8Array(crop.data), pixels.data);
  });

  test("reads JPEG and WebP by their first bytes", async () => {
    const pixels = gradient(40, 32);
    const jpeg = await decodeCrop(await encodeJpeg(pixels));
    assert.deepEqual(
      [jpeg.format, jpeg.heightPx, jpeg.widthPx],
      ["jpeg", 40, 32],
    );
    const { data, widthPx: width, heightPx: height } = pixels;
    const raw = { width, height, channels: 3 } as const;
    for (const lossless of [true, false]) {
      const webp = await sharp(data, { raw }).webp({ lossless }).toBuffer();
      const crop = await decodeCrop(webp);
      assert.deepEqual(
        [crop.format, crop.heightPx, crop.widthPx],
        ["webp", 40, 32],
      );
    }
  });

  test("cuts 16 bits to the upper 8, does not rescale them", async () => {
    const values = Uint16Array.from(
      { length: 16 * 16 * 3 },
      (_, i) => (i * 257 + 255) % 65_536,
    );
    const png = await sharp(values, {
      raw: { width: 16, height: 16, channels: 3 },
    })
      .toColourspace("rgb16")
      .png()
      .toBuffer();
    assert.equal((await sharp(png).metadata()).depth, "ushort");
    const { data } = await decodeCrop(png);
    assert.deepEqual(
      [...data],
      [...values].map((value) => value >> 8),
    );
  });

  test("repeats grey and lays alpha over black", async () => {
    const grey = await sharp(new Uint8Array(64).fill(77), {
      raw: { width: 8, height: 8, channels: 1 },
    })
      .png()
      .toBuffer();
    assert.ok((await decodeCrop(grey)).data.every((value) => value === 77));
    const rgba = new Uint8Array(8 * 8 * 4).fill(200);
    for (let i = 3; i < rgba.length; i += 4) rgba[i] = i < 128 ? 0 : 255;
    const png = await sharp(rgba, { raw: { width: 8, height: 8, channels: 4 } })
      .png()
      .toBuffer();
    const { data } = await decodeCrop(png);
    assert.deepEqual([data[0], data.at(-1)], [0, 200]);
  });

  test("applies EXIF orientation before it resizes", async () => {
    const jpeg = await sharp(await encodePng(gradient(20, 60)))
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toBuffer();
    const crop = await decodeCrop(jpeg);
    assert.deepEqual([crop.heightPx, crop.widthPx], [60, 20]);
    const resized = await decodeCrop(jpeg, {
      resize: { heightPx: 30, widthPx: 10 },
    });
    assert.deepEqual(
      [resized.heightPx, resized.widthPx, resized.data.length],
      [30, 10, 900],
    );
  });

  test("resizes a file and the same pixels sent raw to the same bytes", async () => {
    const pixels = gradient(99, 51);
    const resize = { heightPx: 64, widthPx: 32 };
    const file = await decodeCrop(await encodePng(pixels), { resize });
    const raw = await cropFromRaw({ ...pixels, format: "rgb8" }, { resize });
    assert.deepEqual(new Uint8Array(file.data), new Uint8Array(raw.data));
  });

  test("refuses what is empty, of another format, or cut short, each with its reason", async () => {
    await assert.rejects(
      decodeCrop(new Uint8Array()),
      refusedWith("CROP_EMPTY"),
    );
    await assert.rejects(
      decodeCrop(Buffer.from("no picture")),
      refusedWith("CROP_UNDECODABLE"),
    );
    const gif = await sharp(gradient(9, 9).data, {
      raw: { width: 9, height: 9, channels: 3 },
    })
      .gif()
      .toBuffer();
    await assert.rejects(decodeCrop(gif), refusedWith("CROP_UNDECODABLE"));
    for (const file of [
      await encodePng(gradient(64, 64)),
      await encodeJpeg(gradient(64, 64)),
    ])
      for (const share of [0.1, 0.5, 0.9])
        await assert.rejects(
          decodeCrop(file.subarray(0, file.length * share)),
          refusedWith("CROP_UNDECODABLE"),
        );
  });

  test("refuses by the header alone what is too large or too small", async () => {
    const limits = { ...defaultCropLimits, encodedBytes: 1000 };
    await assert.rejects(decodeCrop(new Uint8Array(1001), { limits }), {
      code: "CROP_TOO_LARGE",
      message: "crop of 1001 bytes is over 1000 bytes: scale it down first",
      // No header was read: nothing is said of its sides.
      facts: { receivedBytes: 1001 },
    });
    const tiny = await encodePng(gradient(7, 64));
    await assert.rejects(decodeCrop(tiny), refusedWith("CROP_TOO_SMALL"));
    for (const [width, height] of [
      [50_000, 50_000],
      [4097, 8],
      [2049, 2048],
    ]) {
      const png = Buffer.from(await encodePng(gradient(8, 8)));
      png.writeUInt32BE(width, 16);
      png.writeUInt32BE(height, 20);
      await assert.rejects(decodeCrop(png), (error: unknown) => {
        assert.ok(refusedWith("CROP_TOO_LARGE")(error));
        const { facts } = error as ReidError;
        assert.deepEqual(
          [facts["widthPx"], facts["heightPx"]],
          [width, height],
        );
        return true;
      });
    }
  });
});

describe("a header of 50,000 x 50,000 pixels", () => {
  const headers: Readonly<Record<string, () => Promise<Buffer>>> = {
    png: async () => {
      const png = Buffer.from(await encodePng(gradient(8, 8)));
      png.writeUInt32BE(50_000, 16);
      png.writeUInt32BE(50_000, 20);
      return png;
    },
    jpeg: async () => {
      const jpeg = Buffer.from(await encodeJpeg(gradient(8, 8)));
      // The frame header (SOF0): marker, length, precision, then height and width.
      const frame = jpeg.indexOf(Buffer.from([0xff, 0xc0]));
      jpeg.writeUInt16BE(50_000, frame + 5);
      jpeg.writeUInt16BE(50_000, frame + 7);
      return jpeg;
    },
    webp: async () => {
      const webp = Buffer.alloc(64);
      webp.write("RIFF");
      webp.write("WEBPVP8X", 8);
      webp.writeUIntLE(49_999, 24, 3);
      webp.writeUIntLE(49_999, 27, 3);
      return webp;
    },
  };
  for (const [format, make] of Object.entries(headers))
    test(`is refused before a pixel of the ${format} is decoded, with both values`, async () => {
      const file = await make();
      await assert.rejects(decodeCrop(file), {
        code: "CROP_TOO_LARGE",
        message:
          "crop of 50000 x 50000 px is over 4096 px a side: scale it down first",
        facts: {
          widthPx: 50_000,
          heightPx: 50_000,
          receivedBytes: file.length,
        },
      });
    });
});

describe("cropFromRaw", () => {
  test("packs rows and turns BGR into RGB, the caller's bytes untouched", async () => {
    const { data, heightPx, widthPx } = gradient(10, 12);
    const strideBytes = 40;
    const padded = new Uint8Array(strideBytes * heightPx);
    for (let y = 0; y < heightPx; y++)
      for (let x = 0; x < widthPx; x++) {
        const [r, g, b] = data.subarray(
          3 * (y * widthPx + x),
          3 * (y * widthPx + x) + 3,
        );
        padded.set([b, g, r], y * strideBytes + 3 * x);
      }
    const copy = padded.slice();
    const crop = await cropFromRaw({
      data: padded,
      format: "bgr8",
      heightPx,
      widthPx,
      strideBytes,
    });
    assert.deepEqual(crop.data, data);
    assert.deepEqual(padded, copy);
    const tight = {
      data: data.slice(),
      format: "bgr8",
      heightPx,
      widthPx,
    } as const;
    await cropFromRaw(tight);
    assert.deepEqual(tight.data, data);
  });

  test("refuses strides and lengths that do not fit, and says what would", async () => {
    const { data } = gradient(10, 12);
    const good = { data, format: "rgb8", heightPx: 10, widthPx: 12 } as const;
    for (const wrong of [
      { strideBytes: 35 },
      { data: data.subarray(1) },
      { data: new Uint8Array(361) },
      { strideBytes: 48 },
    ])
      await assert.rejects(
        cropFromRaw({ ...good, ...wrong }),
        refusedWith("PIXELS_SIZE"),
      );
    await assert.rejects(
      cropFromRaw({ ...good, data: new Uint8Array() }),
      refusedWith("CROP_EMPTY"),
    );
    await assert.rejects(
      cropFromRaw({ ...good, widthPx: 7 }),
      refusedWith("CROP_TOO_SMALL"),
    );
    await assert.rejects(
      cropFromRaw({ ...good, widthPx: 5000 }),
      refusedWith("CROP_TOO_LARGE"),
    );
  });
});

describe("resizePixels", () => {
  test("keeps a flat crop flat and antialiases stripes to grey", async () => {
    const flat = {
      data: new Uint8Array(90 * 90 * 3).fill(131),
      heightPx: 90,
      widthPx: 90,
    };
    const small = await resizePixels(flat, { heightPx: 13, widthPx: 200 });
    assert.ok(small.data.every((value) => value === 131));
    const stripes = new Uint8Array(96 * 96 * 3).map((_, i) =>
      Math.floor(i / 3) % 2 === 0 ? 0 : 255,
    );
    const grey = await resizePixels(
      { data: stripes, heightPx: 96, widthPx: 96 },
      { heightPx: 24, widthPx: 24 },
    );
    const inner = grey.data.filter(
      (_, i) => Math.floor(i / 3) % 24 > 1 && Math.floor(i / 3) % 24 < 22,
    );
    assert.ok(inner.every((value) => Math.abs(value - 128) <= 6));
  });
});

interface OddImage {
  readonly file: string;
  readonly format: string;
  readonly odd: string;
  readonly expect: "accept" | "reject";
  readonly arguable: boolean;
  readonly width?: number;
  readonly height?: number;
  readonly display_width?: number;
  readonly display_height?: number;
}

const oddImages = join(realFolder, "odd-images");
const manifestPath = join(oddImages, "manifest.json");
const skip = realMissing("odd-images/manifest.json");

describe("decodeCrop on files that break decoders", { skip }, () => {
  const files =
    skip === false
      ? (
          JSON.parse(readFileSync(manifestPath, "utf8")) as {
            files: OddImage[];
          }
        ).files
      : [];
  for (const odd of files)
    test(`${odd.file}: ${odd.odd}`, async () => {
      const bytes = readFileSync(join(oddImages, odd.file));
      const reason = refusalOf(odd);
      const outcome = await decodeCrop(bytes).catch((error: unknown) => error);
      if (outcome instanceof Error) {
        assert.ok(outcome instanceof ReidError, String(outcome));
        assert.ok(
          odd.expect === "reject" || odd.arguable || reason !== undefined,
          outcome.message,
        );
        if (reason !== undefined) assert.equal(outcome.code, reason);
        assert.ok(!outcome.message.includes("\n"));
        return;
      }
      assert.ok(
        (odd.expect === "accept" || odd.arguable) && reason === undefined,
        "should have been refused",
      );
      const crop = outcome as Awaited<ReturnType<typeof decodeCrop>>;
      if (odd.display_width !== undefined)
        assert.deepEqual(
          [crop.widthPx, crop.heightPx],
          [odd.display_width, odd.display_height],
        );
      assert.equal(crop.data.length, crop.widthPx * crop.heightPx * 3);
    });
});

/** Why api.md refuses a file whatever a decoder could make of it. */
function refusalOf({
  format,
  width = 64,
  height = 64,
}: OddImage): string | undefined {
  if (format === "gif" || format === "bmp") return "CROP_UNDECODABLE";
  if (Math.min(width, height) < 8) return "CROP_TOO_SMALL";
  return undefined;
}
