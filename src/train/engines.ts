import { createOnnxruntimeEngine } from "./engines/onnxruntime.js";
import type { TrainingEngine } from "./engine.js";

/** Engines by the names `--engine` takes. */
export type EngineName = "onnxruntime";

/** How an engine is made. */
export interface EngineSettings {
  /** 0: as many as there are cores. */
  readonly threads?: number;
}

/** The engines there are. */
export const engines: Readonly<
  Record<EngineName, (settings: EngineSettings) => TrainingEngine>
> = {
  onnxruntime: createOnnxruntimeEngine,
};
