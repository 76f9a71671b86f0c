import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { assert, dataFromError, ShapeError } from "#core/errors";
import { InferenceUnavailableError } from "./inference-errors.js";
import type {
  Device,
  EncoderSource,
  WorkerRequest,
  WorkerResponse,
  WorkerSettings,
} from "./inference-messages.js";

interface Loaded {
  readonly session: InferenceSession;
  readonly encoder: EncoderSource;
  /** uint8 [maxBatch, H, W, 3]; filled anew for every run. */
  readonly input: Uint8Array;
}

const settings = workerData as WorkerSettings;
const loaded = new Map<string, Loaded>();
const port = parentPort;
assert(port !== null, "inference-worker runs as a worker thread");

// One request after another: the answers come in the order of the requests.
let last: Promise<void> = Promise.resolve();
port.on("message", (request: WorkerRequest) => {
  last = last.then(() => answer(request));
});

async function answer(request: WorkerRequest): Promise<void> {
  let response: WorkerResponse;
  try {
    response = await handle(request);
  } catch (error) {
    response = { id: request.id, type: "failed", error: dataFromError(error) };
  }
  const transferred =
    response.type === "features"
      ? [response.features.buffer as ArrayBuffer]
      : [];
  port?.postMessage(response, transferred);
}

async function handle(request: WorkerRequest): Promise<WorkerResponse> {
  const { id } = request;
  switch (request.type) {
    case "load":
      return { id, type: "loaded", device: await load(request.encoder) };
    case "unload": {
      const encoder = loaded.get(request.key);
      loaded.delete(request.key);
      await encoder?.session.release();
      return { id, type: "unloaded" };
    }
    case "run":
      return {
        id,
        type: "features",
        ...(await run(request.key, request.crops)),
      };
  }
}

async function load(encoder: EncoderSource): Promise<string> {
  const { session, device } = await openSession(encoder);
  const cropBytes = encoder.heightPx * encoder.widthPx * 3;
  const input = new Uint8Array(settings.maxBatch * cropBytes);
  loaded.set(encoder.key, { session, encoder, input });
  // The first run allocates and chooses kernels; a caller should not wait for that, nor find a broken encoder.
  await run(encoder.key, [new ArrayBuffer(cropBytes)]);
  return device;
}

async function openSession(
  encoder: EncoderSource,
): Promise<{ session: InferenceSession; device: string }> {
  const failures: string[] = [];
  for (const device of candidates(settings.device)) {
    try {
      const session = await InferenceSession.create(encoder.path, {
        executionProviders: [device],
        intraOpNumThreads: settings.threads,
        interOpNumThreads: 1,
        executionMode: "sequential",
        logSeverityLevel: 3,
      });
      return { session, device };
    } catch (error) {
      const line = error instanceof Error ? error.message : String(error);
      failures.push(`${device}: ${line.split("\n")[0] ?? ""}`);
    }
  }
  throw new InferenceUnavailableError(encoder.key, failures.join("; "));
}

/** CUDA where its provider is installed, and the processor; or exactly what was asked for. */
function candidates(device: Device): readonly Exclude<Device, "auto">[] {
  if (device !== "auto") return [device];
  return hasCudaProvider() ? ["cuda", "cpu"] : ["cpu"];
}

/** The engine lists CUDA wherever it could be installed, and trying it in vain writes an error to stderr. */
function hasCudaProvider(): boolean {
  const engine = dirname(
    createRequire(import.meta.url).resolve("onnxruntime-node/package.json"),
  );
  const libraries = join(engine, "bin/napi-v6", process.platform, process.arch);
  return existsSync(join(libraries, "libonnxruntime_providers_cuda.so"));
}

async function run(
  key: string,
  crops: readonly ArrayBuffer[],
): Promise<{ features: Float32Array; encoderMs: number }> {
  const entry = loaded.get(key);
  if (entry === undefined)
    throw new InferenceUnavailableError(key, "it is not loaded in this worker");
  const { session, encoder, input } = entry;
  const { heightPx, widthPx, dimension } = encoder;
  const cropBytes = heightPx * widthPx * 3;
  crops.forEach((crop, i) => {
    if (crop.byteLength !== cropBytes || i >= settings.maxBatch)
      throw new ShapeError(
        "crops",
        `at most ${settings.maxBatch} x ${cropBytes} bytes`,
        `${crops.length} with one of ${crop.byteLength} bytes`,
      );
    input.set(new Uint8Array(crop), i * cropBytes);
  });
  const image = new Tensor(
    "uint8",
    input.subarray(0, crops.length * cropBytes),
    [crops.length, heightPx, widthPx, 3],
  );
  const started = performance.now();
  const outputs = await session.run({ [session.inputNames[0]]: image });
  const encoderMs = performance.now() - started;
  const output = outputs[session.outputNames[0]].data;
  if (
    !(output instanceof Float32Array) ||
    output.length !== crops.length * dimension
  )
    throw new ShapeError(
      `feature of ${key}`,
      `float32 [${crops.length}, ${dimension}]`,
      `${output.length} elements of another type or number`,
    );
  // A copy of its own can be transferred; the engine's need not be able to.
  return { features: output.slice(), encoderMs };
}
