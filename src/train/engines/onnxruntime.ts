import { InferenceSession, Tensor as RuntimeTensor } from "onnxruntime-node";
import type { ArrayOf, DataType, Model, Tensor } from "#onnx/graph";
import { ShapeError } from "#core/errors";
import { readModel, writeModel } from "#onnx/model";
import type {
  Device,
  EncoderOptions,
  EncoderSession,
  SessionOptions,
  TrainingEngine,
  TrainingSession,
} from "../engine.js";
import { EngineUnavailableError } from "../errors.js";
import {
  type CompiledGraph,
  EVALUATION_BATCH,
  GraphSession,
} from "./graph-session.js";
import { nearestRows } from "./neighbours.js";

/** Settings of the engine where no session is open. */
export interface EngineOptions {
  /** Threads of the neighbour search; 0: as many as there are cores. */
  readonly threads?: number;
}

/** The training engine on onnxruntime: training graphs are ONNX, run by the runtime that also serves. */
export function createOnnxruntimeEngine({
  threads = 0,
}: EngineOptions = {}): TrainingEngine {
  return {
    name: "onnxruntime",
    open: async (options: SessionOptions): Promise<TrainingSession> => {
      requireDevice(options.device);
      return new GraphSession(options, (model) =>
        compileGraph(model, options.threads),
      );
    },
    load: loadEncoder,
    neighbours: (features, dimension, k) =>
      nearestRows({ features, dimension, k }, (model) =>
        compileGraph(model, threads),
      ),
  };
}

async function loadEncoder(
  encoder: Uint8Array,
  { heightPx, widthPx, device, threads }: EncoderOptions,
): Promise<EncoderSession> {
  requireDevice(device);
  const model = readModel(encoder);
  const [input] = model.graph.inputs;
  const [output] = model.graph.outputs;
  const dimension = output.dims[1];
  if (typeof dimension !== "number")
    throw new ShapeError(
      `encoder output "${output.name}"`,
      "[batch, D]",
      `[${output.dims.join(", ")}]`,
    );
  const graph = await compileGraph(model, threads);
  return {
    dimension,
    async embed(crops, count) {
      const features = new Float32Array(count * dimension);
      const size = heightPx * widthPx * 3;
      for (let start = 0; start < count; start += EVALUATION_BATCH) {
        const end = Math.min(count, start + EVALUATION_BATCH);
        const dims = [end - start, heightPx, widthPx, 3];
        const data = crops.subarray(start * size, end * size);
        const target = features.subarray(start * dimension, end * dimension);
        await graph.run(
          { [input.name]: { dataType: "uint8", dims, data } },
          {
            [output.name]: {
              dataType: "float32",
              dims: [end - start, dimension],
              data: target,
            },
          },
          [],
        );
      }
      return features;
    },
    close: () => graph.close(),
  };
}

/** @throws {EngineUnavailableError} the device was asked for and this build of onnxruntime-node does not have it */
function requireDevice(device: Device): void {
  if (device === "auto" || device === "cpu") return;
  throw new EngineUnavailableError(
    "onnxruntime",
    device,
    "train with --device cpu; gradients were only checked on the CPU provider",
  );
}

/**
 * Up to so many nodes onnxruntime looks for everything it could do better. For OSNet's 11,000 the search doubled the
 * time to compile and gained nothing; for ResNet-50's 5,400 it takes three seconds and an iteration gains a tenth.
 */
const MOST_NODES_OPTIMIZED = 8000;

async function compileGraph(
  model: Model,
  threads: number,
): Promise<CompiledGraph> {
  const session = await InferenceSession.create(writeModel(model), {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel:
      model.graph.nodes.length > MOST_NODES_OPTIMIZED ? "basic" : "all",
    logSeverityLevel: 3,
  });
  return {
    async run(feeds, targets, fetches) {
      const wanted: Record<string, RuntimeTensor | null> = {};
      for (const [name, tensor] of Object.entries(targets))
        wanted[name] = runtimeTensor(tensor);
      for (const name of fetches) wanted[name] = null;
      const fetched = await session.run(runtimeTensors(feeds), wanted);
      return Object.fromEntries(
        fetches.map((name) => [name, plainTensor(fetched[name])]),
      );
    },
    close: () => session.release(),
  };
}

/** A compiled graph that takes and gives plain tensors. */
export interface Runner {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /**
   * Runs the graph once.
   *
   * @param feeds  a tensor for each input; only read, not copied
   * @returns      every output by name, owned by the caller
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
  ): Promise<Readonly<Record<string, Tensor>>>;
  close(): Promise<void>;
}

/** How a graph is compiled. */
export interface RunnerOptions {
  /** Threads inside one operator; 0: as many as there are cores. */
  readonly threads?: number;
}

/**
 * Compiles an ONNX model for the CPU.
 *
 * @param modelBytes  a serialized model; may be dropped afterwards
 */
export async function createRunner(
  modelBytes: Uint8Array,
  { threads = 0 }: RunnerOptions = {},
): Promise<Runner> {
  const session = await InferenceSession.create(modelBytes, {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
  return {
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    async run(feeds) {
      const fetched = await session.run(runtimeTensors(feeds));
      const outputs: Record<string, Tensor> = {};
      for (const [name, tensor] of Object.entries(fetched))
        outputs[name] = plainTensor(tensor);
      return outputs;
    },
    close: () => session.release(),
  };
}

function runtimeTensors(
  tensors: Readonly<Record<string, Tensor>>,
): Record<string, RuntimeTensor> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [
      name,
      runtimeTensor(tensor),
    ]),
  );
}

/** onnxruntime's view of a tensor: same memory. */
function runtimeTensor(tensor: Tensor): RuntimeTensor {
  // The constructor's overloads pair each type name with its array; a union of pairs fits none of them.
  return new RuntimeTensor(
    tensor.dataType as "float32",
    tensor.data as Float32Array,
    tensor.dims,
  );
}

/** Our view of onnxruntime's tensor: same memory. */
function plainTensor(tensor: RuntimeTensor): Tensor {
  return {
    dataType: tensor.type as DataType,
    dims: tensor.dims,
    data: tensor.data as ArrayOf[DataType],
  };
}
