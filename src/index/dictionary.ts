const shards = 256;

/** Numbers by key, in many small maps: none grows so large that enlarging it holds the main thread. */
export class ShardedMap<Key> {
  readonly #maps: (Map<Key, number> | undefined)[] = [];
  readonly #hash: (key: Key) => number;

  /** @param hash  any whole number, its low bits well spread */
  constructor(hash: (key: Key) => number) {
    this.#hash = hash;
  }

  get(key: Key): number | undefined {
    return this.#maps[this.#hash(key) & (shards - 1)]?.get(key);
  }

  set(key: Key, value: number): void {
    (this.#maps[this.#hash(key) & (shards - 1)] ??= new Map()).set(key, value);
  }

  delete(key: Key): void {
    this.#maps[this.#hash(key) & (shards - 1)]?.delete(key);
  }
}

/** A hash of a text's UTF-16 units, 32 bits. */
export function hashOfText(text: string): number {
  let hash = 0;
  for (let i = 0; i < text.length; i++)
    hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return hash;
}

/** Code of the empty text: a value that is missing. */
export const MISSING = 0;

/** Texts by small whole numbers, each for as long as it is used; the empty text is always `MISSING`. */
export class Dictionary {
  readonly #codes = new ShardedMap<string>(hashOfText);
  readonly #texts: string[] = [""];
  readonly #free: number[] = [];
  #uses = new Uint32Array(16);

  /** Every code is below. */
  get bound(): number {
    return this.#texts.length;
  }

  /** Texts in use, without the empty one. */
  get size(): number {
    return this.#texts.length - 1 - this.#free.length;
  }

  /** The code of a text; undefined: nothing uses it. */
  find(text: string): number | undefined {
    return text === "" ? MISSING : this.#codes.get(text);
  }

  /** The code of a text, which is used once more. */
  take(text: string): number {
    const code = this.find(text) ?? this.#make(text);
    this.#uses[code]++;
    return code;
  }

  /** Ends one use; the code of a text that nothing uses is given to another. */
  release(code: number): void {
    this.#uses[code]--;
    if (this.#uses[code] > 0 || code === MISSING) return;
    this.#codes.delete(this.#texts[code]);
    this.#texts[code] = "";
    this.#free.push(code);
  }

  text(code: number): string {
    return this.#texts[code];
  }

  /** How many uses a text has. */
  uses(text: string): number {
    const code = this.find(text);
    return code === undefined ? 0 : this.#uses[code];
  }

  /** uint8 [bound]: 1 at the codes of some texts, the empty one left out. */
  marks(texts: Iterable<string>): Uint8Array {
    const marks = new Uint8Array(this.bound);
    for (const text of texts) {
      const code = this.find(text);
      if (code !== undefined && code !== MISSING) marks[code] = 1;
    }
    return marks;
  }

  #make(text: string): number {
    const code = this.#free.pop() ?? this.#texts.length;
    this.#texts[code] = text;
    this.#codes.set(text, code);
    if (code >= this.#uses.length) {
      const larger = new Uint32Array(2 * this.#uses.length);
      larger.set(this.#uses);
      this.#uses = larger;
    }
    return code;
  }
}
