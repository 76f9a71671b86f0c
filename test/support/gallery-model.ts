import assert from "node:assert/strict";

import type { RandomStream } from "#core/random";
import { dot } from "#core/vectors";
import type { Filter } from "#index/filter";
import type { Gallery } from "#index/galleries";
import type {
  Enrollment,
  Entry,
  EntryChanges,
  EntrySelector,
  GallerySpec,
} from "#index/gallery-types";

import { unitFeatures, type SteppedClock } from "./galleries.js";
import { holds, type FilteredFields } from "./naive-filter.js";

/** An entry as the model holds it. */
export interface KnownEntry extends FilteredFields {
  readonly feature: Float32Array;
  readonly expiresAtUs: number | undefined;
  readonly enrolledAtUs: number;
  readonly sequence: number;
}

/** The gallery that random operations are made on, whichever engine holds it. */
export interface ModelledGallery {
  readonly clock: SteppedClock;
  /** As a call finds it; of another server each time, where several serve it. */
  gallery(): Promise<Gallery>;
  /** Deletes what has expired. */
  sweep(): Promise<void>;
  /** Servers sweep by themselves, nobody knows when: nothing that has expired is left for them. */
  readonly isSweptAtOnce?: boolean;
}

/** One kind of operation: how often it is made, and what it does. */
export type ModelStep = readonly [weight: number, step: () => Promise<void>];

type Fields = Omit<FilteredFields, "entryId"> & Pick<KnownEntry, "expiresAtUs">;

const tickUs = 1_000_000;

/** One of a few values, or none. */
function oneOf(random: RandomStream, prefix: string, count: number): string {
  const value = random.below(count + 1);
  return value === 0 ? "" : `${prefix}${value}`;
}

/** Every field of a filter, one time in four each. */
function randomFilter(random: RandomStream): Filter {
  const list = (prefix: string) => [
    `${prefix}${1 + random.below(4)}`,
    `${prefix}${1 + random.below(4)}`,
  ];
  const startUs = random.below(10);
  const fields: Required<Filter> = {
    cameraIn: list("c"),
    cameraNotIn: list("c"),
    identityIn: list("p"),
    identityNotIn: list("p"),
    trackIn: list("t"),
    entryNotIn: list("e"),
    identified: random.below(2) === 0 ? "present" : "absent",
    captured: { startUs, endUs: startUs + 1 + random.below(6) },
    attributes: [
      random.below(2) === 0
        ? { key: "hat", anyOf: list("h") }
        : { key: "bag", noneOf: list("b") },
    ],
    notBoth: { identity: list("p")[0], cameraId: list("c")[0] },
  };
  return Object.fromEntries(
    Object.entries(fields).filter(() => random.below(4) === 0),
  );
}

/**
 * Ids of the first k identities with their best entries, walked one by one.
 *
 * @param hits  all there are, by falling similarity
 */
export function groupedIds(
  hits: readonly { readonly entry: Pick<Entry, "entryId" | "identity"> }[],
  k: number,
  hitsPerIdentity: number,
): readonly string[] {
  const seen = new Map<string, number>();
  const chosen: string[] = [];
  for (const { entry } of hits) {
    const key =
      entry.identity === "" ? `entry ${entry.entryId}` : entry.identity;
    const count = seen.get(key) ?? 0;
    if (count === 0 && seen.size === k) continue;
    seen.set(key, count + 1);
    if (count < hitsPerIdentity) chosen.push(entry.entryId);
  }
  return chosen;
}

/** A gallery beside a Map and brute force: every operation is made on both, and what they say has to agree. */
export class GalleryModel {
  readonly known = new Map<string, KnownEntry>();
  /** What was done so far, for the report of a failure. */
  readonly trace: string[] = [];
  readonly random: RandomStream;
  /** The gallery's last write. */
  sequence = 0;
  readonly #of: ModelledGallery;
  readonly #dimension: number;
  readonly #isExact: boolean;

  constructor(
    { dimension, index }: Pick<GallerySpec, "dimension" | "index">,
    random: RandomStream,
    of: ModelledGallery,
  ) {
    this.random = random;
    this.#of = of;
    this.#dimension = dimension;
    this.#isExact =
      typeof index === "object" && index.kind === "flat" && !index.storage;
  }

  /** The steps that every engine takes. */
  get steps(): readonly ModelStep[] {
    return [
      [35, () => this.#enroll()],
      [10, () => this.#remove()],
      [12, () => this.#update()],
      [10, () => this.#list()],
      [16, () => this.#search()],
      [4, () => this.#wait()],
    ];
  }

  /** Takes random steps and looks after each; a failure says what came before it. */
  async walk(count: number, steps: readonly ModelStep[]): Promise<void> {
    const whole = steps.reduce((sum, [weight]) => sum + weight, 0);
    try {
      for (let i = 0; i < count; i++) {
        let at = this.random.uniform() * whole;
        const [, step] =
          steps.find(([weight]) => (at -= weight) < 0) ?? steps[0];
        await step();
        assert.equal(
          (await this.#of.gallery()).describe().entryCount,
          this.known.size,
        );
      }
      await this.#compareAll();
    } catch (error) {
      const before = this.trace.slice(-40).join("\n");
      assert.fail(`${String(error)}\nafter:\n${before}`);
    }
  }

  /** Says what is done. */
  say(what: string): void {
    this.trace.push(what);
  }

  /** One of sixty entry ids. */
  name(): string {
    return `e${this.random.below(60)}`;
  }

  /** Fields of an entry; it lives on for at least so long. */
  fields(leastUs = this.#of.isSweptAtOnce === true ? tickUs : 0): Fields {
    const { random } = this;
    const hat = oneOf(random, "h", 2);
    return {
      identity: oneOf(random, "p", 5),
      cameraId: oneOf(random, "c", 3),
      trackId: oneOf(random, "t", 4),
      capturedAtUs: random.below(4) === 0 ? undefined : random.below(10),
      expiresAtUs:
        random.below(3) === 0
          ? this.nowUs() + leastUs + random.below(20) * tickUs
          : undefined,
      attributes: {
        ...(hat === "" ? {} : { hat }),
        bag: oneOf(random, "b", 2),
      },
    };
  }

  /** A feature that no entry has yet. */
  feature(): Float32Array {
    return unitFeatures(this.random, 1, this.#dimension);
  }

  nowUs(): number {
    return this.#of.clock.timeMs * 1000;
  }

  /** What a write finds over, it deletes first. */
  sweep(): void {
    for (const [entryId, { expiresAtUs = Infinity }] of this.known) {
      if (expiresAtUs > this.nowUs()) continue;
      this.known.delete(entryId);
      this.sequence++;
    }
  }

  /** The fields as an enrolment has them. */
  given({
    capturedAtUs,
    expiresAtUs,
    ...rest
  }: Fields): Omit<Enrollment, "feature"> {
    return {
      ...rest,
      ...(capturedAtUs === undefined ? {} : { capturedAtUs }),
      ...(expiresAtUs === undefined ? {} : { expiresAtUs }),
    };
  }

  #visible(): readonly KnownEntry[] {
    return [...this.known.values()].filter(
      ({ expiresAtUs = Infinity }) => expiresAtUs > this.nowUs(),
    );
  }

  #selector(): EntrySelector {
    const { random } = this;
    const kind = random.below(3);
    if (kind === 0) return { identity: `p${1 + random.below(5)}` };
    if (kind === 1)
      return { entryIds: [this.name(), this.name(), this.name()] };
    return { filter: { ...randomFilter(random), cameraIn: ["c1", "c2"] } };
  }

  /** Entry ids of what a selector names, by sequence; by id in the order of the ids. */
  #selected(selector: EntrySelector): readonly string[] {
    if ("entryIds" in selector)
      return [...new Set(selector.entryIds)].filter((id) => this.known.has(id));
    const filter =
      "identity" in selector
        ? { identityIn: [selector.identity] }
        : selector.filter;
    return [...this.known.values()]
      .filter((known) => holds(known, filter))
      .sort((a, b) => a.sequence - b.sequence)
      .map(({ entryId }) => entryId);
  }

  async #enroll(): Promise<void> {
    const { random } = this;
    const policy = (["replace", "keep", "fail"] as const)[random.below(3)];
    const items = Array.from({ length: 1 + random.below(12) }, () => ({
      entryId: this.name(),
      feature: this.feature(),
      ...this.fields(),
    }));
    this.say(`enroll ${policy} ${items.map((i) => i.entryId).join(" ")}`);
    const { results } = await (
      await this.#of.gallery()
    ).enroll(
      items.map(({ feature, ...item }) => ({ feature, ...this.given(item) })),
      { onExisting: policy },
    );
    this.sweep();
    items.forEach(({ entryId, ...rest }, i) => {
      const known = this.known.get(entryId);
      if (known !== undefined && policy === "fail")
        assert.equal(results[i].error?.code, "ENTRY_EXISTS");
      else if (known !== undefined && policy === "keep")
        assert.equal(results[i].sequence, known.sequence);
      else {
        assert.equal(results[i].sequence, ++this.sequence);
        const { sequence } = this;
        const enrolledAtUs = this.nowUs();
        this.known.set(entryId, { ...rest, entryId, enrolledAtUs, sequence });
      }
    });
  }

  async #remove(): Promise<void> {
    const selector = this.#selector();
    this.say(`delete ${JSON.stringify(selector)}`);
    const outcome = await (await this.#of.gallery()).deleteEntries(selector);
    this.sweep();
    const doomed = this.#selected(selector);
    for (const entryId of doomed) this.known.delete(entryId);
    this.sequence += doomed.length;
    const { sequence } = this;
    assert.deepEqual(outcome, { deletedCount: doomed.length, sequence });
  }

  async #update(): Promise<void> {
    const { random } = this;
    const selector = this.#selector();
    const { attributes, ...all } = this.fields();
    const fields = Object.fromEntries(
      Object.entries({
        ...all,
        capturedAtUs: all.capturedAtUs ?? null,
        expiresAtUs: all.expiresAtUs ?? null,
      }).filter(() => random.below(3) === 0),
    );
    const bag = random.below(2) === 0 ? "b9" : null;
    const changes: EntryChanges = {
      ...fields,
      ...[
        {},
        { attributes: { replace: attributes, maximum: 16 } },
        { attributes: { set: { bag }, maximum: 16 } },
      ][random.below(3)],
    };
    this.say(`update ${JSON.stringify(selector)} ${JSON.stringify(changes)}`);
    const outcome = await (
      await this.#of.gallery()
    ).updateEntries(selector, changes);
    this.sweep();
    const updated = this.#selected(selector);
    for (const entryId of updated) this.#change(entryId, changes);
    const { sequence } = this;
    assert.deepEqual(outcome, { updatedCount: updated.length, sequence });
  }

  #change(entryId: string, changes: EntryChanges): void {
    const known = this.known.get(entryId);
    assert.ok(known !== undefined);
    const { attributes: wanted, ...rest } = changes;
    const now = { ...(wanted?.replace ?? known.attributes) };
    if (wanted?.set?.["bag"] === null) delete now["bag"];
    else if (wanted?.set !== undefined) now["bag"] = "b9";
    this.known.set(entryId, {
      ...known,
      ...rest,
      capturedAtUs:
        rest.capturedAtUs === undefined
          ? known.capturedAtUs
          : (rest.capturedAtUs ?? undefined),
      expiresAtUs:
        rest.expiresAtUs === undefined
          ? known.expiresAtUs
          : (rest.expiresAtUs ?? undefined),
      attributes: now,
      sequence: ++this.sequence,
    });
  }

  async #list(): Promise<void> {
    const filter = randomFilter(this.random);
    const pageSize = 1 + this.random.below(20);
    this.say(`list ${pageSize} ${JSON.stringify(filter)}`);
    const wanted = this.#visible()
      .filter((known) => holds(known, filter))
      .sort((a, b) => a.sequence - b.sequence);
    const listed: string[] = [];
    let afterSequence: number | undefined = 0;
    while (afterSequence !== undefined) {
      const gallery = await this.#of.gallery();
      const page = await gallery.listEntries({
        ...{ filter, pageSize, afterSequence },
      });
      listed.push(...page.entries.map(({ entryId }) => entryId));
      afterSequence = page.nextSequence;
    }
    assert.deepEqual(
      listed,
      wanted.map(({ entryId }) => entryId),
    );
    const counted = new Map<string, number>();
    for (const { identity } of wanted)
      if (identity !== "")
        counted.set(identity, (counted.get(identity) ?? 0) + 1);
    const people = await (
      await this.#of.gallery()
    ).listIdentities({ filter, pageSize: 10 });
    assert.deepEqual(
      people.identities.map(({ identity, entryCount }) => [
        identity,
        entryCount,
      ]),
      [...counted].sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  }

  async #wait(): Promise<void> {
    const { clock } = this.#of;
    clock.timeMs += (tickUs / 1000) * this.random.below(6);
    this.say(`wait until ${clock.timeMs}`);
    const isLeft = this.random.below(2) === 0;
    if (isLeft && this.#of.isSweptAtOnce !== true) return;
    await this.#of.sweep();
    this.sweep();
    const gallery = await this.#of.gallery();
    assert.equal(gallery.describe().sequence, this.sequence);
  }

  /** Nearest entries, or nearest identities, in each mode that promises to be exact. */
  async #search(): Promise<void> {
    const { random, sequence } = this;
    const dimension = this.#dimension;
    const queries = unitFeatures(random, 2, dimension);
    const filter = randomFilter(random);
    const k = 1 + random.below(20);
    const mode = this.#isExact && random.below(2) === 0 ? "index" : "exact";
    const freshness = random.below(3) === 0 ? "indexed" : "acknowledged";
    const hitsPerIdentity =
      random.below(2) === 0 ? undefined : 1 + random.below(3);
    const request = {
      k,
      filter,
      mode,
      freshness,
      minSequence: sequence,
    } as const;
    this.say(`search ${JSON.stringify({ ...request, hitsPerIdentity })}`);
    const outcome = await (
      await this.#of.gallery()
    ).search({
      ...request,
      queries,
      ...(hitsPerIdentity === undefined ? {} : { group: { hitsPerIdentity } }),
    });
    assert.equal(outcome.sequence, sequence);
    outcome.results.forEach(({ hits }, q) => {
      const query = queries.subarray(q * dimension, (q + 1) * dimension);
      const all = this.#visible()
        .filter((known) => holds(known, filter))
        .map((entry) => ({ entry, similarity: dot(query, entry.feature) }))
        .sort((a, b) => b.similarity - a.similarity);
      const ids =
        hitsPerIdentity === undefined
          ? all.slice(0, k).map(({ entry }) => entry.entryId)
          : groupedIds(all, k, hitsPerIdentity);
      const expected = ids.map((entryId) =>
        dot(query, this.known.get(entryId)?.feature ?? query),
      );
      assert.equal(hits.length, expected.length);
      hits.forEach(({ entry, similarity }, i) => {
        assert.ok(Math.abs(similarity - expected[i]) < 1e-6);
        assert.equal(entry.sequence, this.known.get(entry.entryId)?.sequence);
      });
    });
  }

  /** Every field of every entry. */
  async #compareAll(): Promise<void> {
    const page = await (
      await this.#of.gallery()
    ).listEntries({ pageSize: 1000, view: "feature" });
    assert.deepEqual(
      page.entries.map(
        ({ capturedAtUs, expiresAtUs, ...rest }): Partial<KnownEntry> => ({
          ...rest,
          ...{ capturedAtUs, expiresAtUs },
        }),
      ),
      this.#visible()
        .map((known) => ({ ...known }))
        .sort((a, b) => a.sequence - b.sequence),
    );
  }
}
