import { createHmac, randomBytes } from "node:crypto";

import type { Store, Table, Writer } from "#core/store";

/** What is left of an identity that was forgotten: no name, only a keyed hash of it. */
export interface Tombstone {
  /** Of the answer that its forgetting gave. */
  readonly receiptId: string;
  /** Which key made the hash. */
  readonly keyId: string;
  /** HMAC-SHA-256 of the identity, hexadecimal. */
  readonly hash: string;
  /** Empty: it was forgotten in every gallery. */
  readonly gallery: string;
  /** Microseconds since 1970. */
  readonly forgottenAtUs: number;
}

/** Says of an entry whether it was forgotten after it was enrolled. */
export type IsForgotten = (identity: string, enrolledAtUs: number) => boolean;

/**
 * The identities that a store has forgotten, and the keys of their hashes.
 *
 * A backup brings its own along, under its own key: nothing forgotten comes back through a new data folder.
 */
export class Tombstones {
  readonly #store: Store;
  readonly #tombstones: Table<Tombstone>;
  readonly #keys: Table<Uint8Array>;

  constructor(store: Store) {
    this.#store = store;
    this.#tombstones = store.table<Tombstone>("tombstones", "data");
    this.#keys = store.table("tombstone-keys", "bytes");
  }

  /** The keyed hash of an identity; the key is made, and durable, with the first. */
  async hashOf(identity: string): Promise<Pick<Tombstone, "keyId" | "hash">> {
    let [own] = this.#keys.range({ limit: 1 });
    if (own === undefined) {
      const keyId = randomBytes(8).toString("hex");
      own = { key: keyId, value: randomBytes(32) };
      const made = own;
      await this.#store.write((writer) =>
        writer.put(this.#keys, made.key, made.value),
      );
    }
    return { keyId: String(own.key), hash: hash(own.value, identity) };
  }

  /** Puts a tombstone into a transaction; the same receipt again changes nothing. */
  put(writer: Writer, tombstone: Tombstone): void {
    writer.put(this.#tombstones, tombstone.receiptId, tombstone);
  }

  /** Every tombstone. */
  all(): readonly Tombstone[] {
    return [...this.#tombstones.range()].map(({ value }) => value);
  }

  /** What is forgotten of a gallery, under any of the names it has had. */
  matcher(galleries: readonly string[]): IsForgotten {
    const latest = new Map<string, number>();
    for (const { keyId, hash, gallery, forgottenAtUs } of this.all()) {
      if (gallery !== "" && !galleries.includes(gallery)) continue;
      const key = `${keyId} ${hash}`;
      latest.set(key, Math.max(latest.get(key) ?? 0, forgottenAtUs));
    }
    if (latest.size === 0) return () => false;
    const keys = [...this.#keys.range()];
    const known = new Map<string, number>();
    return (identity, enrolledAtUs) => {
      if (identity === "") return false;
      let forgottenAtUs = known.get(identity);
      if (forgottenAtUs === undefined) {
        forgottenAtUs = Math.max(
          -Infinity,
          ...keys.map(
            ({ key, value }) =>
              latest.get(`${String(key)} ${hash(value, identity)}`) ??
              -Infinity,
          ),
        );
        known.set(identity, forgottenAtUs);
      }
      return enrolledAtUs <= forgottenAtUs;
    };
  }

  /** Takes over the tombstones and keys of another store, such as a backup's. */
  async takeFrom(other: Tombstones): Promise<void> {
    const keys = [...other.#keys.range()].filter(
      ({ key }) => !this.#keys.has(key),
    );
    const tombstones = other
      .all()
      .filter(({ receiptId }) => !this.#tombstones.has(receiptId));
    if (keys.length + tombstones.length === 0) return;
    await this.#store.write((writer) => {
      for (const { key, value } of keys) writer.put(this.#keys, key, value);
      for (const one of tombstones) this.put(writer, one);
    });
  }
}

function hash(key: Uint8Array, identity: string): string {
  return createHmac("sha256", key).update(identity).digest("hex");
}
