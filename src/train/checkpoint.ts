import { createHash } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomically } from "#core/files";
import type { TrainingState } from "./engine.js";
import { CheckpointCorruptError, CheckpointMismatchError } from "./errors.js";
import type { ClusteringState } from "./target-clustering.js";
import type { TrainSettings } from "./settings.js";

/**
 * Everything a run needs to go on as if it had never stopped.
 *
 * Random numbers are keyed by seed, epoch, iteration and place (`#core/random`), so the settings' seed and
 * the epoch are all of their state.
 */
export interface Checkpoint {
  readonly settings: TrainSettings;
  /** Epochs done; the next one has this number, counted from 0. */
  readonly epochsDone: number;
  readonly training: TrainingState;
  readonly memory: MemoryState | undefined;
  readonly clustering: ClusteringState | undefined;
  /** Largest validation mAP so far and its epoch, with `select: best`. */
  readonly best: BestEpoch | undefined;
}

/** The epoch whose encoder did best on the validation set. */
export interface BestEpoch {
  /** From 1. */
  readonly epoch: number;
  readonly mAP: number;
}

/** A hybrid memory at rest. */
export interface MemoryState {
  readonly sourceClasses: number;
  readonly dimension: number;
  /** float32 [R, D]. */
  readonly rows: Float32Array;
  /** int32 [R]. */
  readonly labels: Int32Array;
}

/** First bytes of the file; the last digit is the format's version. */
const MAGIC = "REIDCKP1";

/** Bytes of the SHA-256 at the end. */
const DIGEST_BYTES = 32;

/** Checkpoints kept: the newest, and the one before in case the newest is damaged. */
const KEPT = 2;

/** What stands before the numbers. */
interface Header {
  readonly settings: TrainSettings;
  readonly epochsDone: number;
  readonly step: number;
  readonly tensors: readonly {
    readonly name: string;
    readonly length: number;
  }[];
  readonly memory:
    | {
        readonly sourceClasses: number;
        readonly dimension: number;
        readonly rows: number;
      }
    | undefined;
  readonly clustering: ClusteringState | undefined;
  readonly best: BestEpoch | undefined;
}

/**
 * The checkpoint as bytes: magic, header length (uint32), header (JSON, padded to 4), tensors, memory rows and
 * labels, SHA-256 of all before; little endian.
 */
export function bytesFromCheckpoint(checkpoint: Checkpoint): Uint8Array {
  const { settings, epochsDone, training, memory, clustering, best } =
    checkpoint;
  const names = [...training.tensors.keys()].sort();
  const arrays: ArrayBufferView[] = [];
  const tensors = names.map((name) => {
    const data = training.tensors.get(name) ?? new Float32Array(0);
    arrays.push(data);
    return { name, length: data.length };
  });
  if (memory !== undefined) arrays.push(memory.rows, memory.labels);
  const header: Header = {
    settings,
    epochsDone,
    step: training.step,
    tensors,
    memory:
      memory === undefined
        ? undefined
        : {
            sourceClasses: memory.sourceClasses,
            dimension: memory.dimension,
            rows: memory.labels.length,
          },
    clustering,
    best,
  };
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc(-text.length & 3, " ")]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(padded.length);
  const parts = [Buffer.from(MAGIC), length, padded, ...arrays.map(bytesOf)];
  const digest = createHash("sha256");
  for (const part of parts) digest.update(part);
  return Buffer.concat([...parts, digest.digest()]);
}

/**
 * Reads what `bytesFromCheckpoint` wrote.
 *
 * @param path  only for the message
 * @throws {CheckpointCorruptError} cut short, damaged, or of another version
 */
export function checkpointFromBytes(
  path: string,
  bytes: Uint8Array,
): Checkpoint {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const body = file.subarray(0, -DIGEST_BYTES);
  const start = MAGIC.length + 4;
  if (
    file.length < start + DIGEST_BYTES ||
    body.toString("latin1", 0, MAGIC.length) !== MAGIC
  )
    throw new CheckpointCorruptError(path, "it does not start as one");
  const digest = createHash("sha256").update(body).digest();
  if (!digest.equals(file.subarray(-DIGEST_BYTES)))
    throw new CheckpointCorruptError(path, "its checksum differs");
  const headerBytes = body.readUInt32LE(MAGIC.length);
  const header = JSON.parse(
    body.toString("utf8", start, start + headerBytes),
  ) as Header;
  return contentOf(header, body.subarray(start + headerBytes));
}

function contentOf(header: Header, numbers: Buffer): Checkpoint {
  let at = 0;
  const take = (count: number): ArrayBuffer => {
    const slice = Uint8Array.from(numbers.subarray(at, at + 4 * count));
    at += 4 * count;
    return slice.buffer;
  };
  const tensors = new Map(
    header.tensors.map(({ name, length }): [string, Float32Array] => [
      name,
      new Float32Array(take(length)),
    ]),
  );
  const { memory } = header;
  return {
    settings: header.settings,
    epochsDone: header.epochsDone,
    training: { step: header.step, tensors },
    memory:
      memory === undefined
        ? undefined
        : {
            sourceClasses: memory.sourceClasses,
            dimension: memory.dimension,
            rows: new Float32Array(take(memory.rows * memory.dimension)),
            labels: new Int32Array(take(memory.rows)),
          },
    clustering: header.clustering,
    best: header.best,
  };
}

function bytesOf(array: ArrayBufferView): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * Writes a run's checkpoint atomically and removes all but the newest two.
 *
 * @returns the file's path
 */
export async function saveCheckpoint(
  folder: string,
  checkpoint: Checkpoint,
): Promise<string> {
  const path = join(folder, nameOf(checkpoint.epochsDone));
  await writeAtomically(path, bytesFromCheckpoint(checkpoint));
  const older = (await checkpointsIn(folder)).slice(0, -KEPT);
  for (const name of older) await rm(join(folder, name));
  return path;
}

/**
 * The newest checkpoint of a run, or undefined where there is none.
 *
 * @throws {CheckpointCorruptError} the newest is damaged
 */
export async function loadCheckpoint(
  folder: string,
): Promise<
  { readonly path: string; readonly checkpoint: Checkpoint } | undefined
> {
  const name = (await checkpointsIn(folder)).at(-1);
  if (name === undefined) return undefined;
  const path = join(folder, name);
  return { path, checkpoint: checkpointFromBytes(path, await readFile(path)) };
}

/**
 * Compares the settings a run has with those of its checkpoint.
 *
 * @throws {CheckpointMismatchError} one differs; named with both values
 */
export function expectSameSettings(
  settings: TrainSettings,
  saved: TrainSettings,
): void {
  for (const key of Object.keys(settings) as (keyof TrainSettings)[]) {
    const [expected, received] = [settings[key], saved[key]].map((value) =>
      JSON.stringify(value),
    );
    if (expected !== received)
      throw new CheckpointMismatchError(key, expected, String(received));
  }
}

function nameOf(epochsDone: number): string {
  return `epoch-${String(epochsDone).padStart(5, "0")}.checkpoint`;
}

async function checkpointsIn(folder: string): Promise<readonly string[]> {
  try {
    const names = await readdir(folder);
    return names.filter((it) => /^epoch-\d{5,}\.checkpoint$/.test(it)).sort();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      return [];
    throw error;
  }
}
