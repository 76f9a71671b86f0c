import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MessageChannel } from "node:worker_threads";
import {
  ReidError,
  ShapeError,
  dataFromError,
  errorFromData,
} from "#core/errors";

/** What arrives when a value is posted through a real MessagePort. */
async function posted<T>(value: T): Promise<T> {
  const { port1, port2 } = new MessageChannel();
  const arrived = new Promise<T>((resolve) => port2.once("message", resolve));
  port1.postMessage(value);
  const result = await arrived;
  port1.close();
  return result;
}

describe("dataFromError", () => {
  test("keeps name, code, kind, message and facts across a MessagePort", async () => {
    const error = new ShapeError("features", "[B, D]", "[3]");
    const rebuilt = errorFromData(await posted(dataFromError(error)));
    assert.ok(rebuilt instanceof ReidError);
    assert.equal(rebuilt.name, "ShapeError");
    assert.equal(rebuilt.code, "SHAPE");
    assert.equal(rebuilt.kind, "invalid-argument");
    assert.equal(rebuilt.message, error.message);
    assert.deepEqual(rebuilt.facts, error.facts);
  });

  test("calls anything that is not ours INTERNAL", () => {
    assert.equal(dataFromError(new TypeError("x")).code, "INTERNAL");
    assert.equal(dataFromError("x").kind, "internal");
  });
});
