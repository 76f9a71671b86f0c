import type { RandomStream } from "#core/random";

/** What the sampler draws from: one entry a training crop. */
export interface SamplerInput {
  /** int32 [N]; crops with a negative label are never drawn. */
  readonly labels: Int32Array;
  /** int32 [N]. */
  readonly cameras: Int32Array;
}

/** Crops of one label in a group. */
const GROUP = 4;

/**
 * Draws batches of groups of four: an instance and three more of its label, from other cameras where there are any.
 *
 * One pass goes over all labels in random order; its groups are concatenated and cut into batches, the
 * incomplete last one is dropped. A pass shorter than a batch is itself the batch.
 *
 * Source: spcl-spec 6; yxgeee/SpCL spcl/utils/data/sampler.py, RandomMultipleGallerySampler.
 */
export class GroupSampler {
  readonly #input: SamplerInput;
  readonly #batchSize: number;
  readonly #stream: RandomStream;
  readonly #members: readonly (readonly number[])[];
  #pass: readonly number[] = [];
  #position = 0;

  constructor(input: SamplerInput, batchSize: number, stream: RandomStream) {
    this.#input = input;
    this.#batchSize = batchSize;
    this.#stream = stream;
    this.#members = membersByLabel(input.labels);
  }

  /** Whether there is nothing to draw: no crop has a label. */
  get isEmpty(): boolean {
    return this.#members.length === 0;
  }

  /**
   * The next batch; call only while not `isEmpty`.
   *
   * @returns int32 [B], indices of crops, 1 ≤ B ≤ batchSize; a crop may stand in it twice
   */
  next(): Int32Array {
    if (this.#pass.length - this.#position < this.#batchSize) {
      this.#pass = this.#drawPass();
      this.#position = 0;
    }
    const end = Math.min(this.#pass.length, this.#position + this.#batchSize);
    const batch = Int32Array.from(this.#pass.slice(this.#position, end));
    this.#position = end;
    return batch;
  }

  #drawPass(): readonly number[] {
    const order = this.#stream.shuffle(this.#members.map((_, label) => label));
    const pass: number[] = [];
    for (const label of order) this.#drawGroup(this.#members[label], pass);
    return pass;
  }

  #drawGroup(members: readonly number[], pass: number[]): void {
    const { cameras } = this.#input;
    const first = members[this.#stream.below(members.length)];
    pass.push(first);
    const elsewhere = members.filter((it) => cameras[it] !== cameras[first]);
    const others =
      elsewhere.length > 0 ? elsewhere : members.filter((it) => it !== first);
    if (others.length > 0) this.#drawOthers(others, pass);
  }

  #drawOthers(others: readonly number[], pass: number[]): void {
    const count = GROUP - 1;
    // The reference asks for four candidates, not three, before it draws without replacement.
    if (others.length >= GROUP)
      for (const at of this.#stream.sample(others.length, count))
        pass.push(others[at]);
    else
      for (let i = 0; i < count; i++)
        pass.push(others[this.#stream.below(others.length)]);
  }
}

/** The crops of each label that occurs, labels ascending. */
function membersByLabel(labels: Int32Array): readonly (readonly number[])[] {
  const members = new Map<number, number[]>();
  labels.forEach((label, crop) => {
    if (label < 0) return;
    const known = members.get(label);
    if (known === undefined) members.set(label, [crop]);
    else known.push(crop);
  });
  return [...members.entries()].sort(([a], [b]) => a - b).map(([, it]) => it);
}
