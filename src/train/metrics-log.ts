/** What clustering found in an epoch, and how it compares with the truth where there is one. */
export interface ClusteringRecord {
  readonly k1: number;
  readonly eps: number;
  /** Labels with more than one instance. */
  readonly clusters: number;
  readonly outliers: number;
  /** Of rIndep; null until the first epoch with a cluster. */
  readonly independenceThreshold: number | null;
  readonly largestCluster: number;
  /** Against the data set's identities; absent where there are none. */
  readonly pairPrecision?: number;
  readonly pairRecall?: number;
  readonly nmi?: number;
  readonly ari?: number;
}

/** One line of metrics.jsonl: an optimizer update. */
export interface IterationRecord {
  readonly kind: "iteration";
  readonly epoch: number;
  readonly iteration: number;
  readonly loss: number;
  readonly sourceLoss?: number;
  readonly targetLoss?: number;
  readonly learningRate: number;
}

/** One line of metrics.jsonl: a clustering and its iterations. */
export interface EpochRecord {
  readonly kind: "epoch";
  /** From 1. */
  readonly epoch: number;
  readonly phase: "warmup" | "adaptation";
  readonly iterations: number;
  /** Mean over the epoch's iterations; null where none could be made. */
  readonly meanLoss: number | null;
  readonly clustering?: ClusteringRecord;
  /** On the validation set. */
  readonly mAP?: number;
  readonly rank1?: number;
  readonly seconds: number;
}

/** Where a run is. */
export interface TrainProgress {
  readonly stage:
    | "reading"
    | "memory"
    | "clustering"
    | "training"
    | "evaluating"
    | "exporting";
  /** From 1; 0 before the first. */
  readonly epoch: number;
  readonly epochs: number;
  readonly iteration: number;
  readonly iterations: number;
  readonly loss?: number;
  readonly imagesPerSecond?: number;
  readonly secondsLeft?: number;
  readonly clusters?: number;
  readonly outliers?: number;
}
