import type { Model } from "#onnx/graph";

/** Which copy of the batch norms a forward pass uses (spcl-spec: domain-specific batch normalization). */
export type Domain = "source" | "target";

/** Where an engine runs; `auto` takes the best there is and logs the choice once. */
export type Device = "auto" | "cpu" | "cuda" | "webgpu";

/** Everything that fixes the training graphs of a run. */
export interface SessionOptions {
  /** Encoder with one float32 NCHW input [batch, 3, H, W] and one output [batch, D], not yet L2-normalized. */
  readonly encoder: Model;
  readonly heightPx: number;
  readonly widthPx: number;
  /** Two copies of every batch norm (UDA). With `false` both domains share one copy. */
  readonly domainSpecificBatchNorm: boolean;
  /** Whether the bias of the batch norm behind the pooling (the last one in the graph) is trained. */
  readonly featureBias: "trained" | "frozen";
  /** τ of the contrastive loss. */
  readonly temperature: number;
  /** Added to the gradient (L2), not decoupled. */
  readonly weightDecay: number;
  /** Adam's β1, β2, ε. */
  readonly adam: {
    readonly beta1: number;
    readonly beta2: number;
    readonly epsilon: number;
  };
  readonly device: Device;
  /** Threads of the engine; 0: as many as there are cores. */
  readonly threads: number;
}

/** One domain's share of a batch. */
export interface DomainBatch {
  /** float32 [B, 3, H, W], normalized; only read, may be reused after the call resolves. */
  readonly images: Float32Array;
  /** B. */
  readonly count: number;
  /** int32 [B]: for each crop the prototype of its own class, an index in [0, K). */
  readonly prototypeOf: Int32Array;
}

/** One optimizer update's input. Source, target, or both; both losses are added before the one step. */
export interface IterationInput {
  readonly source?: DomainBatch;
  readonly target?: DomainBatch;
  /** float32 [K, D], the mean of the memory rows of each label (not normalized); only read. */
  readonly prototypes: Float32Array;
  /** K. */
  readonly prototypeCount: number;
  readonly learningRate: number;
}

/** What comes back from one iteration. */
export interface IterationOutput {
  /** Sum over the domains of −(1/B) Σ log(p + 1e-6). */
  readonly loss: number;
  readonly sourceLoss?: number;
  readonly targetLoss?: number;
  /** float32 [B, D] unit features of this forward pass (training mode); valid until the next iteration, copy to keep. */
  readonly sourceFeatures?: Float32Array;
  readonly targetFeatures?: Float32Array;
}

/** Weights, Adam moments, running statistics and the update count, by name: what a checkpoint keeps. */
export interface TrainingState {
  readonly step: number;
  /** Every tensor by name, in sorted order; float32; copies owned by the caller. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

/** An encoder under training. All methods are awaited one after another; none may overlap. */
export interface TrainingSession {
  /** D. */
  readonly dimension: number;
  /** Number of trained scalars. */
  readonly parameterCount: number;
  /**
   * Bytes that each iteration costs a copy of although nobody asked for it: what the engine hands back of state that
   * already lies in place.
   */
  readonly copiedBytes: number;
  /** One forward, backward and Adam update. Weights, moments and running statistics move. */
  iterate(input: IterationInput): Promise<IterationOutput>;
  /**
   * Evaluation-mode features (running statistics of `domain`), unit L2.
   *
   * @param images  float32 [count, 3, H, W], normalized
   * @returns       float32 [count, D], owned by the caller
   */
  embed(
    images: Float32Array,
    count: number,
    domain: Domain,
  ): Promise<Float32Array>;
  /**
   * Recomputes a domain's running statistics as the cumulative average over batches (PyTorch's momentum=None):
   * each batch passes in training mode, the mean of the batch means and of the unbiased batch variances stays.
   */
  recomputeStatistics(
    domain: Domain,
    batches: AsyncIterable<{
      readonly images: Float32Array;
      readonly count: number;
    }>,
  ): Promise<void>;
  /** Writes the source copies of all batch norms (affine and running statistics, and their moments) into the target copies. */
  copySourceToTarget(): void;
  /** A copy of everything that training moves. */
  state(): TrainingState;
  /**
   * Takes up a saved state.
   * @throws {CheckpointMismatchError} names or sizes differ
   */
  restore(state: TrainingState): void;
  /** The encoder with the present weights and one domain's batch norms, in evaluation form: same input and output as it came. */
  exportEncoder(domain: Domain): Model;
  close(): Promise<void>;
}

/** A bundle's encoder (uint8 [batch, H, W, 3] in, unit float32 [batch, D] out), only run, not trained. */
export interface EncoderSession {
  /** D. */
  readonly dimension: number;
  /**
   * @param crops  uint8 [count, H, W, 3], RGB; only read, may be reused after the call resolves
   * @returns      float32 [count, D], unit rows, owned by the caller
   */
  embed(crops: Uint8Array, count: number): Promise<Float32Array>;
  close(): Promise<void>;
}

/** How a bundle's encoder is run. */
export interface EncoderOptions {
  readonly heightPx: number;
  readonly widthPx: number;
  readonly device: Device;
  /** 0: as many as there are cores. */
  readonly threads: number;
}

/** Builds training sessions; one implementation an engine. */
export interface TrainingEngine {
  readonly name: string;
  open(options: SessionOptions): Promise<TrainingSession>;
  /**
   * Opens the bytes of a bundle's `encoder.onnx` for evaluation.
   *
   * @param encoder  the bytes of an ONNX file as `serveableEncoder` makes them
   */
  load(encoder: Uint8Array, options: EncoderOptions): Promise<EncoderSession>;
  /**
   * For each row its k nearest rows by falling inner product, ties by index, itself first.
   *
   * @param features  float32 [N, D], unit rows; only read
   * @returns         int32 [N, k], k ≤ N
   */
  neighbours(
    features: Float32Array,
    dimension: number,
    k: number,
  ): Promise<Int32Array>;
}
