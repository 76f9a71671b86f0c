import type { ErrorData } from "#core/errors";

import type {
  Clustering,
  ClusteringInput,
  ClusteringSettings,
} from "./clustering-run.js";
import type { ConsensusChoice, ConsensusOptions } from "./consensus.js";

/** What the clustering thread is asked; one at a time. */
export type ClusteringRequest =
  | {
      readonly kind: "cluster";
      readonly input: ClusteringInput;
      readonly settings: ClusteringSettings;
    }
  | {
      readonly kind: "choose";
      readonly input: ClusteringInput;
      readonly options: ConsensusOptions;
    }
  | {
      readonly kind: "centre";
      readonly features: Float32Array;
      readonly cameraIds: Int32Array;
      readonly dimension: number;
    };

/** What it answers: buffers are transferred. */
export type ClusteringReply =
  | { readonly kind: "cluster"; readonly clustering: Clustering }
  | { readonly kind: "choose"; readonly choice: ConsensusChoice }
  | { readonly kind: "centre"; readonly centred: Float32Array<ArrayBuffer> }
  | { readonly kind: "failed"; readonly error: ErrorData };
