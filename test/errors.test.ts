import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { MessageChannel } from "node:worker_threads";
import * as address from "#core/address";
import * as core from "#core/errors";
import * as format from "#core/format";
import * as image from "#core/image-errors";
import * as manifest from "#core/manifest-errors";
import * as npy from "#core/npy";
import * as postgres from "#core/postgres-errors";
import * as store from "#core/store-errors";
import * as index from "#index/errors";
import * as scaled from "#index/scaled-errors";
import * as memory from "#memory/errors";
import * as onnx from "#onnx/errors";
import * as auth from "#serve/auth-errors";
import * as serve from "#serve/errors";
import * as inference from "#serve/inference-errors";
import * as online from "#serve/online-errors";
import * as operations from "#serve/operations";
import * as train from "#train/errors";
import { UsageError } from "../src/cli/command.js";
import * as connection from "../src/cli/connection.js";
import { ServerStartError } from "../src/cli/demo/server-process.js";

const { ReidError, dataFromError, errorFromData } = core;

/** One of every class that can be thrown; the first test says which is missing. */
const samples: readonly core.ReidError[] = [
  new address.ListenError("127.0.0.1:1", "EADDRINUSE"),
  new core.AssertionError("a is b"),
  new core.ClosedError("store"),
  new core.ConfigError("serve.listen", "x", "HOST:PORT"),
  new core.DiskFailedError("/runs/a", "EIO"),
  new core.DiskFullError("/runs/a", "ENOSPC"),
  new core.ShapeError("features", "[B, D]", "[3]"),
  new format.FormatNewerError("data/store", 2, 1),
  new image.CropEmptyError(),
  new image.CropTooLargeError(
    { widthPx: 5000, heightPx: 9, receivedBytes: 99 },
    "4096 px a side",
  ),
  new image.CropTooSmallError(7, 9, 8),
  new image.CropUndecodableError("jpeg", 99, "it ends early"),
  new image.PixelsSizeError(30, 600, 599),
  new npy.NpyFormatError("features.npy", "is in Fortran order"),
  new manifest.BundleNotFoundError("models/door"),
  new manifest.ManifestError("models/door/1", "dimension is missing"),
  new manifest.ModelNameError("A B"),
  new postgres.DatabaseFailedError("no such column", "42703"),
  new postgres.DatabaseUnavailableError("ECONNREFUSED"),
  new postgres.PackageMissingError("pg", "store.engine: postgres"),
  new store.StoreCorruptError("data", "MDB_INVALID"),
  new store.StoreFullError("data", 3, 1000),
  new store.StoreLockedError("data", "process 7"),
  new store.StoreReadOnlyError("data", "EROFS"),
  new scaled.EngineUnsupportedError("a snapshot", "back up PostgreSQL"),
  new scaled.MilvusUnavailableError("search", "ECONNREFUSED"),
  new scaled.RequestTakenError("r"),
  new index.BackupCorruptError("b1", "store/data.mdb is missing"),
  new index.BackupModelError("b1", "door/1"),
  new index.BackupNotFoundError("b1"),
  new index.BackupOffError(),
  new index.BindingMissingError("faiss.node", "no such file"),
  new index.EntryExistsError("door", "e1"),
  new index.EntryNotFoundError("door", "e1"),
  new index.ExportFormatError("out", "gallery.json cannot be read"),
  new index.FeatureDimensionError("door", 2048, 512),
  new index.FeatureNotFiniteError(3),
  new index.FeatureNotUnitError(2),
  new index.FilterEmptyError("door"),
  new index.GalleryBusyError("door", "loading"),
  new index.GalleryExistsError("door"),
  new index.GalleryFullError("door", 9),
  new index.GalleryLimitError(9),
  new index.GalleryNotFoundError("door"),
  new index.IndexFailedError("save", "EIO"),
  new index.IndexProblemsError(2),
  new index.ModelMismatchError("door", "a/1", "a/2"),
  new index.ParquetFormatError("a.parquet", "it is cut short"),
  new index.RequestIdReusedError("r"),
  new index.SearchCancelledError(),
  new index.SequenceAheadError("door", 9, 3),
  new index.SnapshotCorruptError("snapshots/1", "other bytes"),
  new memory.ClusteringCancelledError(100),
  new memory.ClusteringWorkerLostError(100, "out of memory"),
  new memory.NoClustersError(0.6, 4, 3),
  new onnx.GraphInvalidError("conv1", "x is not made before it is used"),
  new onnx.OnnxMalformedError("its bytes do not decode"),
  new onnx.OnnxUnsupportedError("external data", "w", "save it in one file"),
  new onnx.OperatorUnsupportedError("Loop", 17, "n", "Conv, Relu"),
  new auth.PermissionDeniedError("Search", "writer", "reader"),
  new auth.RateLimitedError(5, 200),
  new auth.UnauthenticatedError(),
  new serve.BatchTooLargeError("crops", 65, 64),
  new serve.FeatureFormError("no encoding"),
  new serve.FieldInvalidError("k", 0, "1 to 10000"),
  new serve.InsecureListenError("0.0.0.0:1"),
  new serve.MessageTooLargeError(9, 8),
  new serve.ModelIncompatibleError("a/1", "2048", "512"),
  new serve.PageTokenInvalidError("it is an hour old"),
  new serve.ShuttingDownError(),
  new serve.UnsupportedError("rerank", "leave it out"),
  new inference.CancelledError("queue"),
  new inference.DeadlineError("queue"),
  new inference.InferenceUnavailableError("a/1", "no worker"),
  new inference.ModelNotFoundError("a"),
  new inference.ModelNotLoadedError("a/1"),
  new inference.NoActiveModelError(""),
  new inference.OverloadedError("interactive", { depth: 9, limit: 8 }, 50),
  new online.ClusterNotFoundError(3, 1),
  new online.ClusteringGoneError(1, 4),
  new online.MemoryNotFoundError("door"),
  new online.MemoryOffError(),
  new operations.OperationInterruptedError("o"),
  new operations.OperationNotFoundError("o"),
  new train.CheckpointCorruptError("c", "it is cut short"),
  new train.CheckpointMismatchError("seed", "1", "2"),
  new train.DataSetLayoutError("a", "a folder", "missing", "make it"),
  new train.EncoderInputsError("2 inputs"),
  new train.EncoderNotFoundError("resnet-50", ["resnet50"]),
  new train.EncoderOutputError("a map"),
  new train.EncoderSizeError({ heightPx: 1, widthPx: 1 }, "Conv needs 3"),
  new train.EncoderUntrainableError("one input", "2 inputs", "leave one"),
  new train.EngineUnavailableError("onnxruntime", "cuda", "take the CPU"),
  new train.EvaluationSetError("query", "junk", "leave it out"),
  new train.ExportVerificationError(0.1, 1e-4, 64),
  new train.FeatureNodeNotFoundError("n", ["flat"]),
  new train.GradientUnsupportedError("Conv", "c", "it is 3-d", "use 2-d"),
  new train.LossNotFiniteError(NaN, { epoch: 2, iteration: 3 }, "c"),
  new train.NoGradientRuleError("Loop", "n", ["Add", "Conv"]),
  new train.RunExistsError("runs/a"),
  new train.WeightsUnmatchedError(["a"], ["b"]),
  new UsageError("--k is missing: give it"),
  new connection.CropFileNotFoundError("a.jpg"),
  new connection.CropFolderEmptyError("a", 3),
  new connection.CropsRefusedError("embedded", ["CROP_EMPTY"]),
  new ServerStartError("no port"),
];

describe("every error class", () => {
  test("has a sample here", async () => {
    const root = fileURLToPath(new URL("../../src", import.meta.url));
    const declared: string[] = [];
    for (const name of await readdir(root, { recursive: true })) {
      if (!name.endsWith(".ts")) continue;
      const text = await readFile(join(root, name), "utf8");
      const classes = /^export class (\w+)\s+extends ReidError/gm;
      for (const [, one] of text.matchAll(classes)) declared.push(one);
    }
    const sampled = samples.map(({ name }) => name);
    // What arrives from another thread has the name of what was thrown there.
    assert.deepEqual([...sampled, "RemoteError"].sort(), declared.sort());
  });

  for (const error of samples) {
    test(`${error.name} survives a MessagePort`, async () => {
      const rebuilt = errorFromData(await posted(dataFromError(error)));
      assert.ok(rebuilt instanceof ReidError);
      const { name, code, kind, message, facts } = error;
      assert.deepEqual(
        { ...dataFromError(rebuilt) },
        { name, code, kind, message, facts },
      );
      assert.match(code, /^[A-Z][A-Z0-9_]+$/);
    });

    test(`${error.name} says in one line what is wrong and, behind a colon, what to do`, () => {
      assert.match(error.message, /^[^\n]+: [^\n]*[^\n.]$/);
      assert.doesNotMatch(error.message, /undefined|\[object|not yet/);
      for (const [fact, value] of Object.entries(error.facts))
        assert.ok(
          ["string", "number", "boolean"].includes(typeof value),
          `${fact} is plain data`,
        );
    });
  }
});

/** What arrives when a value is posted through a real MessagePort. */
async function posted<T>(value: T): Promise<T> {
  const { port1, port2 } = new MessageChannel();
  const arrived = new Promise<T>((resolve) => port2.once("message", resolve));
  port1.postMessage(value);
  const result = await arrived;
  port1.close();
  return result;
}
