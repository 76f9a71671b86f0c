import { createHmac, randomBytes } from "node:crypto";
import { ReidError } from "#core/errors";
import type { Store, Table } from "#core/store";
import { Turns } from "#index/turns";
import type { CropInput } from "./inference.js";

/** Bytes of a hash that are kept: nobody meets two crops with the same 128 bits. */
const KEPT_BYTES = 16;
const KEY_BYTES = 32;
/** Bytes hashed in one turn of the main thread: a third of a millisecond. */
const HASHED_AT_ONCE = 128 * 1024;

/**
 * Tells crops of the same bytes from others, where the bytes themselves are not kept.
 *
 * HMAC-SHA-256 under a key of the data folder's own: the hash of a picture says nothing to whoever has not both.
 * Crops are hashed one after another and in turns: a thread of its own would have to copy them, at the same cost.
 */
export class CropHashes {
  readonly #store: Store;
  readonly #keys: Table<Uint8Array>;
  readonly #turns = new Turns(HASHED_AT_ONCE);
  #key: Promise<Uint8Array> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(store: Store) {
    this.#store = store;
    this.#keys = store.table("crop-hash-key", "bytes");
  }

  /**
   * The hash of a crop as it came: of the file, or of the raw pixels' bytes.
   *
   * @returns  [16]; undefined where the first key could not be written, as on a full disk
   */
  of(input: CropInput): Promise<Uint8Array | undefined> {
    const hash = this.#last.then(() => this.#hash(input));
    this.#last = hash.catch(() => undefined);
    return hash;
  }

  async #hash(input: CropInput): Promise<Uint8Array | undefined> {
    const key = await this.#currentKey();
    if (key === undefined) return undefined;
    const bytes = "raw" in input ? input.raw.data : input.encoded;
    const hmac = createHmac("sha256", key);
    for (let start = 0; start < bytes.length; start += HASHED_AT_ONCE) {
      const part = bytes.subarray(start, start + HASHED_AT_ONCE);
      hmac.update(part);
      if (this.#turns.count(part.length)) await this.#turns.next();
    }
    return new Uint8Array(hmac.digest().subarray(0, KEPT_BYTES));
  }

  async #currentKey(): Promise<Uint8Array | undefined> {
    this.#key ??= this.#open();
    try {
      return await this.#key;
    } catch (error) {
      // The next crop tries again.
      this.#key = undefined;
      if (error instanceof ReidError) return undefined;
      throw error;
    }
  }

  async #open(): Promise<Uint8Array> {
    const kept = this.#keys.get("key");
    if (kept !== undefined) return new Uint8Array(kept);
    const made = randomBytes(KEY_BYTES);
    await this.#store.write((writer) => writer.put(this.#keys, "key", made));
    return made;
  }
}
