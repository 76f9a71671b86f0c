import { readFile } from "node:fs/promises";
import { parentPort } from "node:worker_threads";
import { AssertionError, dataFromError, ReidError } from "#core/errors";
import { decodeCrop } from "#core/image";
import { randomStream } from "#core/random";
import { augmentCrop, normalizeCrop } from "./augmentation.js";
import type {
  CheckMessage,
  CropFailure,
  CropReply,
  CropRequest,
  FillMessage,
  RegisterMessage,
} from "./crops-messages.js";
import { DataSetLayoutError } from "./errors.js";

/** Crops decoded at a time: as many as libuv has threads. */
const DECODES_AT_ONCE = 4;

/** A set as this worker sees it. */
interface HeldSet extends Omit<RegisterMessage, "cache" | "filled"> {
  readonly cache: Uint8Array;
  readonly filled: Uint8Array;
  /** H · W · 3. */
  readonly cropBytes: number;
}

const sets = new Map<number, HeldSet>();

const port = parentPort;
if (port === null)
  throw new AssertionError("the crop worker runs in a worker thread");

port.on("message", (request: CropRequest) => {
  if (request.kind === "register") {
    register(request);
    return;
  }
  if (request.kind === "drop") {
    sets.delete(request.set);
    return;
  }
  answer(request).then(
    (reply) => {
      port.postMessage(reply, reply.kind === "filled" ? [reply.buffer] : []);
    },
    (error: unknown) => {
      port.postMessage({
        kind: "failed",
        job: request.job,
        error: dataFromError(error),
      } satisfies CropReply);
    },
  );
});

function register(message: RegisterMessage): void {
  sets.set(message.set, {
    ...message,
    cache: new Uint8Array(message.cache),
    filled: new Uint8Array(message.filled),
    cropBytes: message.heightPx * message.widthPx * 3,
  });
}

function answer(request: FillMessage | CheckMessage): Promise<CropReply> {
  const set = sets.get(request.set);
  if (set === undefined)
    throw new AssertionError(`crop set ${request.set} was never registered`);
  return request.kind === "fill" ? fill(set, request) : check(set, request);
}

async function fill(set: HeldSet, request: FillMessage): Promise<CropReply> {
  const write = writerOf(set, request);
  await forEachCrop(request.crops, async (crop, position) => {
    write(await pixelsOf(set, crop), position);
  });
  return { kind: "filled", job: request.job, buffer: request.buffer };
}

/** How one crop gets into its place of the batch. */
function writerOf(
  set: HeldSet,
  { buffer, layout, view }: FillMessage,
): (pixels: Uint8Array, position: number) => void {
  const { cropBytes } = set;
  if (layout === "pixels") {
    const output = new Uint8Array(buffer);
    return (pixels, position) => output.set(pixels, position * cropBytes);
  }
  const output = new Float32Array(buffer);
  const placeOf = (position: number): Float32Array =>
    output.subarray(position * cropBytes, (position + 1) * cropBytes);
  if (view === undefined)
    return (pixels, position) => normalizeCrop(pixels, set, placeOf(position));
  const { seed, name, epoch, iteration, padPx } = view;
  const options = { heightPx: set.heightPx, widthPx: set.widthPx, padPx };
  return (pixels, position) => {
    // Keyed by the place in the run, not drawn in turn: the same whatever the number of workers.
    const stream = randomStream(
      seed,
      `augmentation ${name}`,
      epoch,
      iteration,
      position,
    );
    augmentCrop(pixels, options, stream, placeOf(position));
  };
}

async function check(set: HeldSet, request: CheckMessage): Promise<CropReply> {
  const failures: CropFailure[] = [];
  await forEachCrop(request.crops, async (crop) => {
    try {
      await pixelsOf(set, crop);
    } catch (error) {
      if (!(error instanceof DataSetLayoutError)) throw error;
      failures.push({ crop, reason: error.facts.received });
    }
  });
  failures.sort((a, b) => a.crop - b.crop);
  return { kind: "checked", job: request.job, failures };
}

/** Runs over the crops of a batch, a few at a time. */
async function forEachCrop(
  crops: Int32Array,
  visit: (crop: number, position: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const run = async (): Promise<void> => {
    while (next < crops.length) {
      const position = next++;
      await visit(crops[position], position);
    }
  };
  await Promise.all(Array.from({ length: DECODES_AT_ONCE }, run));
}

/** A crop's resized pixels: from its slot of the cache, or decoded, and kept where there is a slot. */
async function pixelsOf(set: HeldSet, crop: number): Promise<Uint8Array> {
  const { cache, filled, cropBytes } = set;
  const hasSlot = crop < filled.length;
  const slot = hasSlot
    ? cache.subarray(crop * cropBytes, (crop + 1) * cropBytes)
    : undefined;
  if (slot !== undefined && Atomics.load(filled, crop) === 1) return slot;
  const pixels = await decodeFile(set, set.paths[crop]);
  // Two workers may fill a slot at once: they write the same bytes.
  slot?.set(pixels);
  if (hasSlot) Atomics.store(filled, crop, 1);
  return pixels;
}

async function decodeFile(set: HeldSet, path: string): Promise<Uint8Array> {
  const { heightPx, widthPx } = set;
  try {
    const bytes = await readFile(path);
    const crop = await decodeCrop(bytes, { resize: { heightPx, widthPx } });
    return crop.data;
  } catch (error) {
    if (!(error instanceof ReidError) && !isFileError(error)) throw error;
    throw new DataSetLayoutError(
      path,
      "a crop that can be decoded",
      `unreadable (${error.message})`,
      "replace or remove it, or leave such files out with --skip-bad",
    );
  }
}

function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error;
}
