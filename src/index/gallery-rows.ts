import { Dictionary, hashOfText, MISSING, ShardedMap } from "./dictionary.js";
import type { EntryRecord } from "./gallery-records.js";
import { RowChunk, rowsInChunk } from "./row-chunk.js";

/** An entry in memory, without its feature. */
export interface Row extends Omit<EntryRecord, "featureId"> {
  /** Of its last write. */
  readonly sequence: number;
  /** Sequence of the write that brought its feature: the feature's key in the store, its id in the index. */
  readonly featureId: number;
}

/** A UTF-16 unit in the order that UTF-8 gives: surrogates stand for what is behind U+FFFF. */
function inByteOrder(unit: number): number {
  if (unit >= 0xe000) return unit - 0x800;
  return unit >= 0xd800 ? unit + 0x2000 : unit;
}

/** Orders ids byte by byte, as UTF-8. */
export function compareIds(a: string, b: string): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return inByteOrder(x) - inByteOrder(y);
  }
  return a.length - b.length;
}

/** Packing fewer costs more than they do. */
const leastDead = 64;

/** Stands between key and value of an attribute; no key has it. */
const between = "\0";

/** An attribute as the dictionary of attributes has it. */
export function pairOf(key: string, value: string): string {
  return key + between + value;
}

/**
 * What is known of every entry of a gallery without touching the disk: who, where, when.
 *
 * In columns, so that filters run over numbers: texts are codes of dictionaries, rows lie by rising sequence in
 * chunks. Looking an entry up makes an object of its own.
 */
export class GalleryRows {
  readonly cameras = new Dictionary();
  readonly identities = new Dictionary();
  readonly tracks = new Dictionary();
  /** Of `pairOf`. */
  readonly pairs = new Dictionary();
  /** By rising sequence, none of them empty. */
  readonly #chunks: RowChunk[] = [];
  /** Sequences. */
  readonly #byEntryId = new ShardedMap<string>(hashOfText);
  /** Sequences of the entries that have been changed since their feature was written. */
  readonly #byFeatureId = new ShardedMap<number>((featureId) => featureId);
  /** By identity code: sequence of its last entry. */
  #lastOf = new Float64Array(16);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Different identities, the unknown one left out. */
  get identityCount(): number {
    return this.identities.size;
  }

  /** By rising sequence; must not be changed. */
  get chunks(): readonly RowChunk[] {
    return this.#chunks;
  }

  /** All feature ids lie in between, inclusive; [0, 0] where there are none. */
  get featureIdSpan(): readonly [number, number] {
    if (this.#chunks.length === 0) return [0, 0];
    return [
      Math.min(...this.#chunks.map(({ firstFeatureId }) => firstFeatureId)),
      Math.max(...this.#chunks.map(({ lastFeatureId }) => lastFeatureId)),
    ];
  }

  /** By rising sequence. */
  *all(): Iterable<Row> {
    for (const chunk of this.#chunks)
      for (let i = 0; i < chunk.count; i++)
        if (chunk.columns.alive[i] === 1) yield this.rowAt(chunk, i);
  }

  /** Feature ids of all entries, by rising sequence. */
  *featureIds(): Iterable<number> {
    for (const { count, columns } of this.#chunks)
      for (let i = 0; i < count; i++)
        if (columns.alive[i] === 1) yield columns.featureId[i];
  }

  /** The entry whose feature the index has under this id. */
  at(featureId: number): Row | undefined {
    const place = this.#placeOfFeature(featureId);
    return place < 0
      ? undefined
      : this.rowAt(this.#chunkAt(place), place % rowsInChunk);
  }

  has(featureId: number): boolean {
    return this.#placeOfFeature(featureId) >= 0;
  }

  named(entryId: string): Row | undefined {
    const sequence = this.#byEntryId.get(entryId);
    return sequence === undefined ? undefined : this.#withSequence(sequence);
  }

  /** Feature ids of an identity's entries, the last written first; of the unknown one: none. */
  *ofIdentity(identity: string): Iterable<number> {
    const code = this.identities.find(identity) ?? MISSING;
    if (code === MISSING) return;
    for (let sequence = this.#lastOf[code]; sequence !== 0;) {
      const place = this.#placeOf(sequence);
      const chunk = this.#chunkAt(place);
      const position = place % rowsInChunk;
      yield chunk.columns.featureId[position];
      sequence = chunk.columns.previous[position];
    }
  }

  /** How many entries an identity has; without looking at them. */
  countOfIdentity(identity: string): number {
    return identity === "" ? 0 : this.identities.uses(identity);
  }

  /** The index of the first chunk that has a sequence behind this one. */
  chunkAfter(sequence: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { columns, count } = this.#chunks[middle];
      if (columns.sequence[count - 1] <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Sequences are added in rising order. */
  add(row: Row): void {
    const { sequence } = row;
    const identity = this.identities.take(row.identity);
    const chunk = this.#chunkToFill();
    const pairs = Object.entries(row.attributes).map(([key, value]) =>
      this.pairs.take(pairOf(key, value)),
    );
    const facts = {
      sequence,
      featureId: row.featureId,
      capturedAtUs: row.capturedAtUs ?? NaN,
      expiresAtUs: row.expiresAtUs ?? Infinity,
      enrolledAtUs: row.enrolledAtUs,
      previous: this.#link(identity, sequence),
      next: 0,
      camera: this.cameras.take(row.cameraId),
      identity,
      track: this.tracks.take(row.trackId),
      alive: 1,
      hasCrop: row.hasCrop ? 1 : 0,
    };
    chunk.push(facts, row.entryId, pairs);
    this.#byEntryId.set(row.entryId, sequence);
    if (row.featureId !== sequence)
      this.#byFeatureId.set(row.featureId, sequence);
    this.#size++;
  }

  /** Forgets an entry; a newer one may be there under its id, or with its feature. */
  remove({ sequence, entryId, featureId }: Row): void {
    const place = this.#placeOf(sequence);
    if (place < 0) return;
    const chunk = this.#chunkAt(place);
    const position = place % rowsInChunk;
    const { columns } = chunk;
    this.#unlink(chunk, position);
    this.identities.release(columns.identity[position]);
    this.cameras.release(columns.camera[position]);
    this.tracks.release(columns.track[position]);
    for (const pair of chunk.pairsAt(position)) this.pairs.release(pair);
    chunk.kill(position);
    if (this.#byEntryId.get(entryId) === sequence)
      this.#byEntryId.delete(entryId);
    if (this.#byFeatureId.get(featureId) === sequence)
      this.#byFeatureId.delete(featureId);
    this.#size--;
    const dead = chunk.count - chunk.live;
    if (chunk.live === 0 || dead >= Math.max(chunk.live, leastDead))
      this.#pack(Math.floor(place / rowsInChunk));
  }

  /** Entries that are over and not yet deleted; the rows must not change while they are asked for. */
  *expired(nowUs: number): Generator<Row, void, undefined> {
    for (const chunk of this.#chunks) {
      if (nowUs < chunk.nextExpiryUs) continue;
      const { alive, expiresAtUs } = chunk.columns;
      let next = Infinity;
      for (let i = 0; i < chunk.count; i++) {
        if (alive[i] === 0) continue;
        next = Math.min(next, expiresAtUs[i]);
        if (expiresAtUs[i] <= nowUs) yield this.rowAt(chunk, i);
      }
      chunk.nextExpiryUs = next;
    }
  }

  /** The entry at a position of a chunk, as an object of its own. */
  rowAt(chunk: RowChunk, position: number): Row {
    const { columns } = chunk;
    const capturedAtUs = columns.capturedAtUs[position];
    const expiresAtUs = columns.expiresAtUs[position];
    return {
      entryId: chunk.entryIds[position],
      sequence: columns.sequence[position],
      featureId: columns.featureId[position],
      identity: this.identities.text(columns.identity[position]),
      cameraId: this.cameras.text(columns.camera[position]),
      capturedAtUs: Number.isNaN(capturedAtUs) ? undefined : capturedAtUs,
      trackId: this.tracks.text(columns.track[position]),
      attributes: this.#attributesOf(chunk.pairsAt(position)),
      expiresAtUs: expiresAtUs === Infinity ? undefined : expiresAtUs,
      enrolledAtUs: columns.enrolledAtUs[position],
      hasCrop: columns.hasCrop[position] === 1,
    };
  }

  #attributesOf(pairs: Uint32Array): Readonly<Record<string, string>> {
    const attributes: Record<string, string> = {};
    for (const code of pairs) {
      const pair = this.pairs.text(code);
      const end = pair.indexOf(between);
      attributes[pair.slice(0, end)] = pair.slice(end + between.length);
    }
    return attributes;
  }

  #withSequence(sequence: number): Row | undefined {
    const place = this.#placeOf(sequence);
    return place < 0
      ? undefined
      : this.rowAt(this.#chunkAt(place), place % rowsInChunk);
  }

  /** Chunk · rowsInChunk + position of a living row; −1: there is none of that sequence. */
  #placeOf(sequence: number): number {
    const at = this.chunkAfter(sequence - 1);
    if (at === this.#chunks.length) return -1;
    const { columns } = this.#chunks[at];
    const position = this.#chunks[at].lowerBound(sequence);
    return columns.sequence[position] === sequence &&
      columns.alive[position] === 1
      ? at * rowsInChunk + position
      : -1;
  }

  #placeOfFeature(featureId: number): number {
    const place = this.#placeOf(featureId);
    const isOwn =
      place >= 0 &&
      this.#chunkAt(place).columns.featureId[place % rowsInChunk] === featureId;
    if (isOwn) return place;
    const sequence = this.#byFeatureId.get(featureId);
    return sequence === undefined ? -1 : this.#placeOf(sequence);
  }

  #chunkAt(place: number): RowChunk {
    return this.#chunks[Math.floor(place / rowsInChunk)];
  }

  #chunkToFill(): RowChunk {
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.count < rowsInChunk) return last;
    const chunk = new RowChunk();
    this.#chunks.push(chunk);
    return chunk;
  }

  /** Puts an entry behind the others of its identity. @returns the sequence of the one before; 0: none */
  #link(identity: number, sequence: number): number {
    if (identity === MISSING) return 0;
    if (identity >= this.#lastOf.length) {
      const larger = new Float64Array(2 * this.#lastOf.length);
      larger.set(this.#lastOf);
      this.#lastOf = larger;
    }
    const previous = this.#lastOf[identity];
    this.#lastOf[identity] = sequence;
    if (previous !== 0) this.#set("next", previous, sequence);
    return previous;
  }

  #unlink({ columns }: RowChunk, position: number): void {
    const identity = columns.identity[position];
    if (identity === MISSING) return;
    const previous = columns.previous[position];
    const next = columns.next[position];
    if (previous !== 0) this.#set("next", previous, next);
    if (next !== 0) this.#set("previous", next, previous);
    else this.#lastOf[identity] = previous;
  }

  #set(link: "previous" | "next", sequence: number, to: number): void {
    const place = this.#placeOf(sequence);
    this.#chunkAt(place).columns[link][place % rowsInChunk] = to;
  }

  /** Leaves out the dead rows of a chunk, and joins what is left with the chunk before where both are small. */
  #pack(at: number): void {
    const chunk = this.#chunks[at];
    const before = at > 0 ? this.#chunks[at - 1] : undefined;
    const joined = before !== undefined && before.live + chunk.live;
    if (chunk.live === 0) this.#chunks.splice(at, 1);
    else if (joined !== false && joined <= rowsInChunk / 2)
      this.#chunks.splice(
        at - 1,
        2,
        RowChunk.packed(this.#chunks.slice(at - 1, at + 1)),
      );
    else this.#chunks[at] = RowChunk.packed([chunk]);
  }
}
