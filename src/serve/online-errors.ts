import { ReidError } from "#core/errors";

/** The server runs without an online memory. */
export class MemoryOffError extends ReidError<Record<string, never>> {
  readonly code = "MEMORY_OFF";
  readonly kind = "failed-precondition";

  constructor() {
    super("this server keeps no online memory: start it with --online", {});
  }
}

/** No memory of that model name. */
export class MemoryNotFoundError extends ReidError<{ memory: string }> {
  readonly code = "MEMORY_NOT_FOUND";
  readonly kind = "not-found";

  constructor(memory: string) {
    super(
      `there is no memory "${memory}": a memory has the name of a model that is active here`,
      { memory },
    );
  }
}

/** A clustering older than the last two. */
export class ClusteringGoneError extends ReidError<{
  requested: number;
  last: number;
}> {
  readonly code = "CLUSTERING_GONE";
  readonly kind = "failed-precondition";

  constructor(requested: number, last: number) {
    super(
      `clustering ${requested} is not kept, the last one is ${last}: start again with that`,
      { requested, last },
    );
  }
}

/** No cluster of that id in the clustering asked for. */
export class ClusterNotFoundError extends ReidError<{
  clusterId: number;
  clustering: number;
}> {
  readonly code = "CLUSTER_NOT_FOUND";
  readonly kind = "not-found";

  constructor(clusterId: number, clustering: number) {
    super(
      `clustering ${clustering} has no cluster ${clusterId}: list its clusters for their ids`,
      { clusterId, clustering },
    );
  }
}
