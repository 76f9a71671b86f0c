import { InferenceSession, Tensor as RuntimeTensor } from "onnxruntime-node";
import type { ArrayOf, DataType, Tensor } from "#onnx/graph";

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
      const runtimeFeeds: Record<string, RuntimeTensor> = {};
      for (const [name, tensor] of Object.entries(feeds))
        runtimeFeeds[name] = runtimeTensor(tensor);
      const fetched = await session.run(runtimeFeeds);
      const outputs: Record<string, Tensor> = {};
      for (const [name, tensor] of Object.entries(fetched))
        outputs[name] = plainTensor(tensor);
      return outputs;
    },
    close: () => session.release(),
  };
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
