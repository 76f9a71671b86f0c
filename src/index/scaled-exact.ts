import type { Session } from "#core/postgres";

import { SearchCancelledError } from "./errors.js";
import { featureFromBytes } from "./gallery-records.js";
import type { SqlCondition } from "./scaled-filter.js";
import { Turns } from "./turns.js";

/** Features read in one statement: decoding them holds the main thread well under a millisecond. */
const bytesAtOnce = 256 * 1024;
/** Multiplications between two looks at the clock of others. */
const productsAtOnce = 250_000;

/** An entry found for one query. */
export interface Candidate {
  readonly sequence: number;
  /** Inner product. */
  readonly similarity: number;
}

/** Which entries of a gallery are compared one by one. */
export interface ExactScope {
  readonly number: number;
  readonly dimension: number;
  /** `tail`: only those that Milvus does not have yet. */
  readonly from: "entries" | "tail";
  /** On the columns of `entries`; its values begin with `$4`. */
  readonly condition: SqlCondition;
}

const tables: Readonly<Record<ExactScope["from"], string>> = {
  entries: "entries",
  tail: "(SELECT e.* FROM outbox AS o JOIN entries AS e USING (gallery, sequence) WHERE NOT o.removed) AS tail",
};

/** The best few of what is put in. */
class Best {
  readonly #most: number;
  #found: Candidate[] = [];
  #least = -Infinity;

  constructor(most: number) {
    this.#most = most;
  }

  put(candidate: Candidate): void {
    if (candidate.similarity < this.#least) return;
    this.#found.push(candidate);
    if (this.#found.length >= 2 * this.#most + 64) this.#trim();
  }

  /** By falling similarity. */
  take(): Candidate[] {
    this.#trim();
    return this.#found;
  }

  #trim(): void {
    this.#found.sort((a, b) => b.similarity - a.similarity);
    // Those that tie with the last stay: the order of ties is by entry id, which is not known here.
    const last = this.#found.at(this.#most - 1)?.similarity;
    if (this.#found.length <= this.#most || last === undefined) return;
    this.#least = last;
    let end = this.#most;
    while (this.#found[end]?.similarity === last) end++;
    this.#found = this.#found.slice(0, end);
  }
}

/**
 * Compares queries with every entry of a scope, page by page.
 *
 * @param session  in a snapshot transaction: all pages are of one state
 * @param queries  [Q], each float32 [D]
 * @param limit    candidates of each query; more where they tie with the last
 * @returns        [Q], by falling similarity
 * @throws {SearchCancelledError} the signal fired
 */
export async function compareAll(
  session: Session,
  scope: ExactScope,
  {
    queries,
    limit,
    signal,
  }: {
    readonly queries: readonly Float32Array[];
    readonly limit: number;
    readonly signal: AbortSignal | undefined;
  },
): Promise<readonly (readonly Candidate[])[]> {
  const { number, dimension, condition } = scope;
  const best = queries.map(() => new Best(limit));
  const atOnce = Math.max(16, Math.floor(bytesAtOnce / (4 * dimension)));
  const turns = new Turns(
    Math.max(1, Math.floor(productsAtOnce / (dimension * queries.length))),
  );
  for (let after = 0; ;) {
    if (signal?.aborted === true) throw new SearchCancelledError();
    const rows = await session.query<{ sequence: number; feature: Buffer }>(
      `SELECT sequence, feature FROM ${tables[scope.from]}
       WHERE gallery = $1 AND sequence > $2 AND ${condition.text}
       ORDER BY sequence LIMIT $3`,
      [number, after, atOnce, ...condition.values],
    );
    for (const { sequence, feature } of rows) {
      const values = featureFromBytes(feature);
      for (const [q, query] of queries.entries())
        best[q].put({ sequence, similarity: product(query, values) });
      if (turns.isOver) await turns.next();
    }
    if (rows.length < atOnce) return best.map((one) => one.take());
    after = rows[rows.length - 1].sequence;
  }
}

/** Inner product, rounded to float32 as an index' is. */
export function product(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return Math.fround(sum);
}
