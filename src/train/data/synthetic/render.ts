import { mkdir, readdir, rmdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { ConfigError, errorFromData } from "#core/errors";
import { writeAtomically, writeFolderAtomically } from "#core/files";
import { planCrops, type PlannedCrop } from "./crop-plan.js";
import type { RenderReply, RenderTask } from "./render-messages.js";
import type {
  RenderOptions,
  RenderSummary,
  RenderWorld,
} from "./render-options.js";

const folders = ["bounding_box_train", "query", "bounding_box_test"];

/**
 * Renders a data set of walking people in Market-1501 layout.
 *
 * The same options give the same bytes, whatever the number of threads. The folder appears whole or not at all.
 *
 * @throws {ConfigError} a number out of range, or the folder exists and is not empty
 */
export async function renderDomain(
  options: RenderOptions,
): Promise<RenderSummary> {
  checkOptions(options);
  options.signal?.throwIfAborted();
  const { out, domain, seed, cameras, signal } = options;
  const { heightPx = 128, widthPx = 64 } = options;
  const world: RenderWorld = { domain, seed, cameras, heightPx, widthPx };
  const crops = planCrops(options);
  await removeEmptyFolder(out);

  let rendered = 0;
  const onRendered = (count: number) => {
    rendered += count;
    options.onProgress?.(rendered, crops.length);
  };
  const threads = Math.max(
    1,
    Math.min(options.threads ?? availableParallelism(), crops.length),
  );
  await writeFolderAtomically(out, async (folder) => {
    for (const name of folders) await mkdir(join(folder, name));
    // Market-1501 has six cameras; a reader takes more only where the folder says so.
    await writeAtomically(
      join(folder, "layout.json"),
      `${JSON.stringify({ cameras })}\n`,
    );
    const run = new AbortController();
    const stop = () => run.abort(signal?.reason);
    signal?.addEventListener("abort", stop, { once: true });
    try {
      const results = await Promise.allSettled(
        shares(crops, threads).map((share) =>
          runWorker(
            { world, folder, crops: share },
            onRendered,
            run.signal,
          ).catch((error: unknown) => {
            run.abort(error);
            throw error;
          }),
        ),
      );
      for (const result of results)
        if (result.status === "rejected") throw result.reason;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  });
  const inFolder = (name: string) =>
    crops.filter(({ path }) => path.startsWith(`${name}/`)).length;
  return {
    folder: out,
    train: inFolder("bounding_box_train"),
    query: inFolder("query"),
    gallery: inFolder("bounding_box_test"),
  };
}

function checkOptions(options: RenderOptions): void {
  const ranges: readonly (readonly [keyof RenderOptions, number, number])[] = [
    ["identities", 0, 4000],
    ["testIdentities", 0, 4000],
    ["cameras", 1, 9],
    ["cropsPerIdentity", 1, 1000],
    ["testCropsPerIdentity", 1, 1000],
    ["seed", 0, Number.MAX_SAFE_INTEGER],
    ["heightPx", 32, 1024],
    ["widthPx", 16, 512],
    ["threads", 1, 256],
  ];
  for (const [name, minimum, maximum] of ranges) {
    const value = options[name];
    if (value === undefined) continue;
    if (
      typeof value !== "number" ||
      !Number.isInteger(value) ||
      value < minimum ||
      value > maximum
    )
      throw new ConfigError(
        name,
        String(value),
        `a whole number from ${minimum} to ${maximum}`,
      );
  }
  if (options.identities + options.testIdentities === 0)
    throw new ConfigError("identities", "0", "at least one identity");
}

async function removeEmptyFolder(path: string): Promise<void> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code === "ENOENT") return;
    if (code === "ENOTDIR")
      throw new ConfigError(
        "out",
        `"${path}", which is no folder`,
        "a folder that does not exist or is empty",
      );
    throw error;
  }
  if (names.length > 0)
    throw new ConfigError(
      "out",
      `"${path}", which holds ${names.length} files or folders`,
      "a folder that does not exist or is empty",
    );
  await rmdir(path);
}

/** Whole identities to each thread, so that a figure's paint is mixed once. */
function shares(crops: readonly PlannedCrop[], count: number): PlannedCrop[][] {
  const parts: PlannedCrop[][] = Array.from({ length: count }, () => []);
  for (const crop of crops) parts[crop.identity % count].push(crop);
  return parts.filter((part) => part.length > 0);
}

function runWorker(
  task: RenderTask,
  onRendered: (count: number) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./render-worker.js", import.meta.url), {
      workerData: task,
    });
    let failure: unknown;
    const stop = () => {
      failure ??= signal.reason;
      void worker.terminate();
    };
    signal.addEventListener("abort", stop, { once: true });
    worker.on("message", (reply: RenderReply) => {
      if (reply.kind === "progress") onRendered(reply.rendered);
      else failure ??= errorFromData(reply.error);
    });
    worker.on("error", (error) => {
      failure ??= error;
    });
    // A worker is done when its thread is: nothing of it writes afterwards.
    worker.on("exit", () => {
      signal.removeEventListener("abort", stop);
      if (failure === undefined) resolve();
      else reject(failure as Error);
    });
  });
}
