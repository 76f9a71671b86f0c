import { parentPort } from "node:worker_threads";
import { assert, dataFromError } from "#core/errors";
import type { RerankReply, RerankRequest } from "./rerank-messages.js";
import { rerankedDistances } from "./reranking.js";

assert(parentPort, "the re-ranking worker runs in a thread of its own");
const port = parentPort;

let last: Promise<void> = Promise.resolve();

port.on("message", (request: RerankRequest) => {
  // One after another: each of them uses every core already.
  last = last.then(() => answer(request));
});

async function answer({ id, input, settings }: RerankRequest): Promise<void> {
  try {
    const distances = await rerankedDistances(input, settings);
    const reply: RerankReply = { id, distances };
    port.postMessage(reply, [distances.buffer]);
  } catch (error) {
    const reply: RerankReply = { id, error: dataFromError(error) };
    port.postMessage(reply);
  }
}
