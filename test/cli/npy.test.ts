import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { openNpy } from "../../src/cli/npy.js";
import { inFolder } from "../support/galleries.js";
import { npyFile } from "../support/npy.js";

const numbers = Float32Array.from({ length: 6 }, (_, i) => i / 8);
const bytes = Buffer.from(numbers.buffer);

describe("openNpy", () => {
  const readable = [
    ["float32, format 1", npyFile("<f4", [3, 2], bytes), "f32le", 8],
    ["float32, format 2", npyFile("<f4", [3, 2], bytes, 2), "f32le", 8],
    ["float16", npyFile("<f2", [3, 4], bytes), "f16le", 8],
    ["no rows", npyFile("<f4", [0, 2], Buffer.alloc(0)), "f32le", 8],
  ] as const;
  for (const [what, content, encoding, rowBytes] of readable)
    test(`reads ${what}`, () =>
      inFolder(async (folder) => {
        const path = join(folder, "a.npy");
        await writeFile(path, content);
        const file = await openNpy(path);
        const rows: Buffer[] = [];
        for await (const row of file.rows()) rows.push(Buffer.from(row));
        await file.close();
        await file.close();
        assert.equal(file.encoding, encoding);
        assert.equal(rows.length, file.count);
        assert.ok(rows.every((row) => row.length === rowBytes));
        if (rows.length > 0) assert.deepEqual(Buffer.concat(rows), bytes);
      }));

  const damaged: readonly (readonly [string, Buffer, RegExp])[] = [
    ["no .npy file", Buffer.from("a picture, or so"), /is no \.npy file/],
    ["an empty file", Buffer.alloc(0), /is no \.npy file/],
    ["float64", npyFile("<f8", [3, 1], bytes), /numbers of type "<f8"/],
    ["big-endian numbers", npyFile(">f4", [3, 2], bytes), /type ">f4"/],
    ["pickled objects", npyFile("|O", [3, 2], bytes), /type "\|O"/],
    ["a vector", npyFile("<f4", [6], bytes), /does not hold a matrix/],
    ["a cube", npyFile("<f4", [1, 3, 2], bytes), /does not hold a matrix/],
    ["rows of nothing", npyFile("<f4", [3, 0], Buffer.alloc(0)), /\[3, 0\]/],
    [
      "a file that is cut short",
      npyFile("<f4", [3, 2], bytes.subarray(1)),
      /has \d+ bytes where \[3, 2\] needs/,
    ],
    [
      "a file that is too long",
      npyFile("<f4", [3, 2], Buffer.concat([bytes, bytes])),
      /has \d+ bytes where \[3, 2\] needs/,
    ],
    [
      "Fortran order",
      Buffer.from(
        npyFile("<f4", [3, 2], bytes)
          .toString("latin1")
          .replace("False", "True "),
        "latin1",
      ),
      /is in Fortran order/,
    ],
    [
      "a header without end",
      Buffer.concat([
        Buffer.from("\x93NUMPY\x02\x00\xff\xff\xff\x7f", "latin1"),
        bytes,
      ]),
      /has a header of 2147483647 bytes/,
    ],
  ];
  for (const [what, content, problem] of damaged)
    test(`refuses ${what}`, () =>
      inFolder(async (folder) => {
        const path = join(folder, "a.npy");
        await writeFile(path, content);
        await assert.rejects(openNpy(path), {
          code: "NPY_FORMAT",
          message: problem,
        });
      }));

  test("says which file is not there", () =>
    inFolder(async (folder) => {
      const path = join(folder, "none.npy");
      await assert.rejects(openNpy(path), { code: "CROP_FILE_NOT_FOUND" });
    }));
});
