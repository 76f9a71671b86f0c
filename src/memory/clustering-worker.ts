import { parentPort } from "node:worker_threads";

import { assert, dataFromError } from "#core/errors";

import { centreByCamera } from "./centring.js";
import { clusterInstances } from "./clustering-run.js";
import type {
  ClusteringReply,
  ClusteringRequest,
} from "./clustering-messages.js";
import { chooseClustering } from "./consensus.js";

assert(parentPort, "the clustering worker runs in a thread of its own");
const port = parentPort;

port.on("message", (request: ClusteringRequest) => {
  try {
    const reply = answer(request);
    port.postMessage(reply, buffersOf(reply));
  } catch (error) {
    const reply: ClusteringReply = {
      kind: "failed",
      error: dataFromError(error),
    };
    port.postMessage(reply);
  }
});

function answer(request: ClusteringRequest): ClusteringReply {
  switch (request.kind) {
    case "cluster":
      return {
        kind: "cluster",
        clustering: clusterInstances(request.input, request.settings),
      };
    case "choose":
      return {
        kind: "choose",
        choice: chooseClustering(request.input, request.options),
      };
    case "centre":
      return {
        kind: "centre",
        centred: centreByCamera(
          request.features,
          request.cameraIds,
          request.dimension,
        ),
      };
  }
}

function buffersOf(reply: ClusteringReply): ArrayBuffer[] {
  return reply.kind === "centre" ? [reply.centred.buffer] : [];
}
