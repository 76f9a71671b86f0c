import { stat } from "node:fs/promises";

/** How often the files are looked at. */
const PERIOD_MS = 1000;

/** What is done with the files, and with a failure to. */
export interface FileUse {
  /** Reads them: at once, and after each change. */
  load(): Promise<void>;
  /** Told what a later `load` fails with; what was loaded before stays in force. */
  onFailure(error: unknown): void;
}

/**
 * Files that are read again when one of them has changed.
 *
 * They are looked at once a second: unlike a notice of the system, that also finds files behind links that are
 * turned elsewhere, and files on another machine's disk.
 */
export class WatchedFiles {
  readonly #files: readonly string[];
  readonly #use: FileUse;
  #seen: string;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;

  private constructor(files: readonly string[], use: FileUse, seen: string) {
    this.#files = files;
    this.#use = use;
    this.#seen = seen;
  }

  /** Loads the files for the first time. @throws what `load` throws */
  static async open(
    files: readonly string[],
    use: FileUse,
  ): Promise<WatchedFiles> {
    // Before they are read: what changes while they are is found at the next look.
    const watched = new WatchedFiles(files, use, await signatureOf(files));
    await use.load();
    if (files.length > 0) {
      watched.#timer = setInterval(() => void watched.look(), PERIOD_MS);
      watched.#timer.unref();
    }
    return watched;
  }

  /** Looks at once; one look at a time. */
  look(): Promise<void> {
    return (this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    }));
  }

  /** Idempotent; waits for a look under way. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    const now = await signatureOf(this.#files);
    if (now === this.#seen) return;
    this.#seen = now;
    await this.#use.load().catch((error: unknown) => {
      this.#use.onFailure(error);
    });
  }
}

/** What changes when one of the files does. */
async function signatureOf(files: readonly string[]): Promise<string> {
  const parts = await Promise.all(
    files.map(async (file) => {
      try {
        const { mtimeNs, size, ino } = await stat(file, { bigint: true });
        return [mtimeNs, size, ino].join(":");
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? String(error);
      }
    }),
  );
  return parts.join(" ");
}
