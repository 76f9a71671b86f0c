/**
 * The package's public surface: what may be imported from `spcl-reid`. Everything else is private.
 *
 * A line a purpose: talk to a server, run one, train and judge encoders, look after bundles, read and
 * differentiate ONNX graphs, cluster features.
 */
export { connect, type CallSettings, type Client } from "./cli/client.js";

export { startServer, type ReidServer } from "./serve/server.js";
export { loadConfig, parseConfig, type Config } from "./core/config.js";
export { createLog, silentLog, type Log } from "./core/log.js";

export { train, type TrainResult } from "./train/train.js";
export type { TrainOptions, TrainSettings } from "./train/settings.js";
export { engines, type EngineName } from "./train/engines.js";
export { evaluateBundle } from "./train/bundle-evaluation.js";
export { evaluate, type Evaluation } from "./train/evaluation.js";
export { systemClock, type Clock } from "./core/clock.js";

export {
  listBundles,
  readBundle,
  resolveBundle,
  writeBundle,
  type Bundle,
  type Manifest,
} from "./core/manifest.js";
export { decodeCrop, type DecodedCrop } from "./core/image.js";

export { readModel, writeModel } from "./onnx/model.js";
export { checkGraph } from "./onnx/check.js";
export { inferShapes } from "./onnx/shapes.js";
export { GraphBuilder } from "./onnx/builder.js";
export { foldConstants } from "./onnx/folding.js";
export type { Graph, Model, Node, Tensor, ValueInfo } from "./onnx/graph.js";
export {
  differentiate,
  gradientRules,
  type Differentiated,
} from "./train/autodiff.js";
export { lower } from "./train/lowering.js";

export {
  HybridMemory,
  type HybridMemoryOptions,
} from "./memory/hybrid-memory.js";
export {
  clusterInstances,
  PAPER_CLUSTERING,
  type Clustering,
  type ClusteringInput,
} from "./memory/clustering-run.js";
export { OUTLIER } from "./memory/dbscan.js";

export { ReidError, type ErrorKind } from "./core/errors.js";
