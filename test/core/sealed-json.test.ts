import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { sealedJson, sealOf } from "#core/sealed-json";

const description = { formatVersion: 2, name: "door", list: [1, { a: "ü" }] };

describe("sealedJson", () => {
  test("gives the description back, with a checksum behind it", () => {
    const text = sealedJson(description);
    const { checksum, ...rest } = JSON.parse(text) as { checksum: string };
    assert.deepEqual(rest, description);
    assert.match(checksum, /^[0-9a-f]{64}$/);
    assert.equal(sealOf(text), "whole");
  });

  test("is not whole with any other bit, whichever it is, and not when it is cut", () => {
    const bytes = Buffer.from(sealedJson(description));
    for (let at = 0; at < bytes.length; at++)
      for (let bit = 0; bit < 8; bit++) {
        const damaged = Buffer.from(bytes);
        damaged[at] ^= 1 << bit;
        assert.notEqual(sealOf(damaged.toString()), "whole", `${at}, ${bit}`);
      }
    for (let end = 0; end < bytes.length; end++)
      assert.notEqual(sealOf(bytes.toString("utf8", 0, end)), "whole");
  });

  test("says nothing of a text that was written without one", () => {
    assert.equal(sealOf(JSON.stringify(description, undefined, 2)), "none");
    assert.equal(sealOf(""), "none");
  });
});
