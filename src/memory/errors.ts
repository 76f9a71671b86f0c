import { ReidError } from "#core/errors";

/** A question that needs clusters was asked where there are none. */
export class NoClustersError extends ReidError<{
  eps: number;
  minSamples: number;
  instances: number;
}> {
  readonly code = "NO_CLUSTERS";
  readonly kind = "failed-precondition";

  constructor(eps: number, minSamples: number, instances: number) {
    super(
      `${instances} instances form no cluster at eps ${eps} with ${minSamples} samples: ` +
        "gather more crops of each identity, or raise eps",
      { eps, minSamples, instances },
    );
  }
}

/** A clustering was called off by its AbortSignal before it was done. */
export class ClusteringCancelledError extends ReidError<{ instances: number }> {
  readonly code = "CLUSTERING_CANCELLED";
  readonly kind = "cancelled";

  constructor(instances: number) {
    super(
      `the clustering of ${instances} instances was cancelled: start it again to have its labels`,
      { instances },
    );
  }
}

/** The thread that clusters ended on its own, out of memory for instance. */
export class ClusteringWorkerLostError extends ReidError<{
  instances: number;
  reason: string;
}> {
  readonly code = "CLUSTERING_WORKER_LOST";
  readonly kind = "unavailable";

  constructor(instances: number, reason: string) {
    super(
      `the thread clustering ${instances} instances ended (${reason}): ` +
        "try again, with fewer instances if it is short of memory",
      { instances, reason },
    );
  }
}
