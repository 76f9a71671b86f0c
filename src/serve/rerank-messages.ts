import type { ErrorData } from "#core/errors";
import type { RerankInput, RerankSettings } from "./reranking.js";

/** What the re-ranking thread is asked. */
export interface RerankRequest {
  /** Echoed. */
  readonly id: number;
  readonly input: RerankInput;
  readonly settings: RerankSettings;
}

/** What it answers; buffers are transferred. */
export type RerankReply = { readonly id: number } & (
  | { readonly distances: Float32Array<ArrayBuffer> }
  | { readonly error: ErrorData }
);
