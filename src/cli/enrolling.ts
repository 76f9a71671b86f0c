import { readFile } from "node:fs/promises";
import type { RequestOf } from "#serve/protocol";
import { errorFromCall, type Client } from "./client.js";
import type { LabelledCrop, TransferOptions } from "./retrieval.js";

type Enrollment = NonNullable<
  RequestOf<"GalleryService", "Enroll">["enrollments"]
>[number];

/** One entry to be enrolled, and what it is called where it fails. */
export interface EnrollItem {
  readonly path: string;
  readonly enrollment: Enrollment;
}

/** What enrolling came to. */
export interface EnrollReport {
  readonly enrolled: number;
  /** In the order they were sent. */
  readonly failed: readonly {
    readonly path: string;
    readonly reason: string;
    readonly message: string;
  }[];
  /** Of the gallery, after the last write. */
  readonly sequence: string;
}

/** Crops that may be unanswered: files of up to 4 MiB. */
const CROPS_IN_FLIGHT = 256;
const FEATURES_IN_FLIGHT = 4096;

/** Enrolls crops under their paths' names as entry ids; a crop that fails leaves the others unharmed. */
export function enrollCrops(
  client: Client,
  gallery: string,
  crops: readonly LabelledCrop[],
  options: TransferOptions,
): Promise<EnrollReport> {
  const items = async function* (): AsyncGenerator<EnrollItem> {
    for (const { path, identity, cameraId } of crops)
      yield {
        path,
        enrollment: {
          crop: { encoded: await readFile(path), cameraId },
          entry: { entryId: entryIdOf(path), identity },
        },
      };
  };
  return enrollAll(
    client,
    { gallery, window: CROPS_IN_FLIGHT },
    items(),
    options,
  );
}

/** Enrolls features; one that fails leaves the others unharmed. */
export function enrollFeatures(
  client: Client,
  gallery: string,
  items: AsyncIterable<EnrollItem>,
  options: TransferOptions,
): Promise<EnrollReport> {
  return enrollAll(
    client,
    { gallery, window: FEATURES_IN_FLIGHT },
    items,
    options,
  );
}

/**
 * Sends entries over one StreamEnroll, as many unanswered as the server grants.
 *
 * @throws {ReidError} the stream failed; what was committed by then stays
 */
async function enrollAll(
  client: Client,
  to: { readonly gallery: string; readonly window: number },
  items: AsyncIterable<EnrollItem>,
  { signal, onProgress }: TransferOptions,
): Promise<EnrollReport> {
  const stream = client.streamEnroll();
  const paths = new Map<string, string>();
  const failed: EnrollReport["failed"][number][] = [];
  let enrolled = 0;
  let sequence = "0";
  let window = 0;
  let changed: () => void = () => undefined;
  const ended = new Promise<void>((resolve, reject) => {
    stream.on("end", resolve);
    stream.on("error", (error: Parameters<typeof errorFromCall>[0]) =>
      reject(errorFromCall(error)),
    );
  });
  // Waited for below; until then its failure is nobody's surprise.
  ended.catch(() => undefined);
  stream.on("data", ({ opened, commit }) => {
    window = opened?.window ?? window;
    for (const { correlationId, result } of commit?.results ?? []) {
      const path = paths.get(correlationId) ?? "";
      paths.delete(correlationId);
      const error = result?.error ?? null;
      if (error === null) enrolled++;
      else failed.push({ path, reason: error.reason, message: error.message });
    }
    sequence = commit?.sequence ?? sequence;
    onProgress?.(enrolled + failed.length);
    changed();
  });
  const cancel = () => stream.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    stream.write({ open: { gallery: to.gallery, window: to.window } });
    let next = 0;
    for await (const { path, enrollment } of items) {
      while (paths.size >= window)
        await Promise.race([
          new Promise<void>((resolve) => (changed = resolve)),
          ended,
        ]);
      const correlationId = String(next++);
      paths.set(correlationId, path);
      stream.write({ enrollment: { correlationId, item: enrollment } });
    }
    stream.end();
    await ended;
  } finally {
    signal.removeEventListener("abort", cancel);
    stream.cancel();
  }
  return { enrolled, failed, sequence };
}

/** An entry's id: the last 128 bytes of its path, which hold the file's name. */
function entryIdOf(path: string): string {
  const parts = path.split("/");
  return parts.slice(-2).join("/").slice(-128);
}
