import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { dataFromError } from "#core/errors";
import { writeFailure } from "#core/files";
import { CropRenderer } from "./crop-renderer.js";
import type { RenderReply, RenderTask } from "./render-messages.js";

const { world, folder, crops } = workerData as RenderTask;
const say = (reply: RenderReply) => parentPort?.postMessage(reply);
const reportEvery = 20;

try {
  const renderer = new CropRenderer(world);
  let unreported = 0;
  for (const crop of crops) {
    writeFileSync(join(folder, crop.path), renderer.render(crop));
    if (++unreported < reportEvery) continue;
    say({ kind: "progress", rendered: unreported });
    unreported = 0;
  }
  say({ kind: "progress", rendered: unreported });
} catch (error) {
  say({ kind: "failed", error: dataFromError(writeFailure(error, folder)) });
}
