import type { EntryRecord } from "./gallery-records.js";

/** An entry in memory, without its feature. */
export interface Row extends EntryRecord {
  readonly sequence: number;
}

/** Orders ids byte by byte, as UTF-8. */
export function compareIds(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function put(
  postings: Map<string, Set<number>>,
  key: string,
  sequence: number,
): void {
  const known = postings.get(key);
  if (known === undefined) postings.set(key, new Set([sequence]));
  else known.add(sequence);
}

function take(
  postings: Map<string, Set<number>>,
  key: string,
  sequence: number,
): void {
  const known = postings.get(key);
  known?.delete(sequence);
  if (known?.size === 0) postings.delete(key);
}

/** What is known of every entry of a gallery without touching the disk: who, where, when. */
export class GalleryRows {
  readonly #bySequence = new Map<number, Row>();
  readonly #byEntryId = new Map<string, Row>();
  readonly #byIdentity = new Map<string, Set<number>>();
  readonly #byCamera = new Map<string, Set<number>>();
  readonly #expiring = new Set<number>();
  #nextExpiryUs = Infinity;

  get size(): number {
    return this.#bySequence.size;
  }

  /** Different identities, the unknown one left out. */
  get identityCount(): number {
    return this.#byIdentity.size - (this.#byIdentity.has("") ? 1 : 0);
  }

  /** By rising sequence. */
  all(): Iterable<Row> {
    return this.#bySequence.values();
  }

  at(sequence: number): Row | undefined {
    return this.#bySequence.get(sequence);
  }

  named(entryId: string): Row | undefined {
    return this.#byEntryId.get(entryId);
  }

  ofIdentity(identity: string): ReadonlySet<number> {
    return this.#byIdentity.get(identity) ?? new Set();
  }

  ofCamera(cameraId: string): ReadonlySet<number> {
    return this.#byCamera.get(cameraId) ?? new Set();
  }

  /** Sequences are added in rising order: iteration is by sequence. */
  add(row: Row): void {
    this.#bySequence.set(row.sequence, row);
    this.#byEntryId.set(row.entryId, row);
    put(this.#byIdentity, row.identity, row.sequence);
    put(this.#byCamera, row.cameraId, row.sequence);
    if (row.expiresAtUs !== undefined) {
      this.#expiring.add(row.sequence);
      this.#nextExpiryUs = Math.min(this.#nextExpiryUs, row.expiresAtUs);
    }
  }

  remove(row: Row): void {
    this.#bySequence.delete(row.sequence);
    // A replacement may be under the same id already.
    if (this.#byEntryId.get(row.entryId)?.sequence === row.sequence)
      this.#byEntryId.delete(row.entryId);
    take(this.#byIdentity, row.identity, row.sequence);
    take(this.#byCamera, row.cameraId, row.sequence);
    this.#expiring.delete(row.sequence);
  }

  /** Entries that are over and not yet deleted. */
  expired(nowUs: number): Row[] {
    if (nowUs < this.#nextExpiryUs) return [];
    const over: Row[] = [];
    let next = Infinity;
    for (const sequence of this.#expiring) {
      const row = this.#bySequence.get(sequence);
      const expiresAtUs = row?.expiresAtUs ?? Infinity;
      next = Math.min(next, expiresAtUs);
      if (row !== undefined && expiresAtUs <= nowUs) over.push(row);
    }
    this.#nextExpiryUs = next;
    return over;
  }
}
