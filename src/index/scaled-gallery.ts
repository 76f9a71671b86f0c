import { setTimeout as delay } from "node:timers/promises";

import { ClosedError } from "#core/errors";
import { inTransaction, type Session } from "#core/postgres";

import { EntryNotFoundError, GalleryNotFoundError } from "./errors.js";
import { requireConditions } from "./entry-changes.js";
import type { Gallery } from "./galleries.js";
import { featureFromBytes } from "./gallery-records.js";
import type { SnapshotState } from "./gallery-snapshots.js";
import type {
  DeleteOutcome,
  Enrollment,
  EnrollOptions,
  EnrollOutcome,
  Entry,
  EntryChanges,
  EntryPage,
  EntryPageRequest,
  EntrySelector,
  EntryView,
  GalleryChanges,
  GalleryDescription,
  IdentityPage,
  InTransaction,
  QueryHits,
  RebuildOptions,
  SearchOutcome,
  SearchRequest,
  UpdateOutcome,
} from "./gallery-types.js";
import type { IndexSpec } from "./index-kinds.js";
import type { IdentitiesPage } from "./identities.js";
import { milvusIndexOf } from "./milvus-index.js";
import {
  entriesOfIdentity,
  identitiesPage,
  selectEntries,
  updateSelected,
  type ForgottenEntry,
  type Living,
} from "./scaled-changes.js";
import type { ScaledContext } from "./scaled-context.js";
import {
  EngineUnsupportedError,
  MilvusUnavailableError,
} from "./scaled-errors.js";
import { sqlFrom } from "./scaled-filter.js";
import { searchScaledGroups } from "./scaled-groups.js";
import { Rounds } from "./rounds.js";
import {
  descriptionOf,
  entryFrom,
  viewColumns,
  type EntryRow,
  type ScaledRecord,
  type ScaledState,
} from "./scaled-records.js";
import { rebuildCollection } from "./scaled-rebuild.js";
import { locks } from "./scaled-schema.js";
import {
  searchScaled,
  type ScaledHits,
  type ScaledScope,
} from "./scaled-search.js";
import { changedScaled, wantedIndexOf } from "./scaled-update.js";
import { ScaledWrites } from "./scaled-writes.js";
import { checkQueries, checkSequence } from "./search-checks.js";

const pollMs = 20;

/** One gallery on Milvus and PostgreSQL, as any number of servers hold it at once. */
export class ScaledGallery implements Gallery {
  readonly #context: ScaledContext;
  readonly #writes: ScaledWrites;
  /** Enrolments that asked each for itself would pass each other on the way to the queue. */
  readonly #room = new Rounds(() => this.#waitForRoom());
  #state: ScaledState;
  #isClosed = false;
  /** Said once: what comes of it is the listener's. */
  #isOutgrown = false;

  /** Used by `ScaledGalleries`. */
  constructor(context: ScaledContext, state: ScaledState) {
    this.#context = context;
    this.#state = state;
    this.#writes = new ScaledWrites(context, {
      number: state.number,
      name: state.record.name,
      onCommitted: (record) => this.#committed(record),
    });
  }

  get name(): string {
    return this.#state.record.name;
  }

  /** Its number in the database; never given to another gallery. */
  get number(): number {
    return this.#state.number;
  }

  /** No snapshot is taken: Milvus keeps what it holds. */
  get snapshotState(): SnapshotState {
    return { sequence: 0, takenAtMs: undefined };
  }

  /** What the index is to be rebuilt to; undefined: it is as it should be. */
  get wantedIndex(): IndexSpec | undefined {
    return wantedIndexOf(this.#state.record, this.#context.flatBelow);
  }

  /** Takes note of a state that a statement has found; an older one than is known changes nothing. */
  see(state: ScaledState): void {
    const { revision = 0 } = this.#state.record;
    if ((state.record.revision ?? 0) >= revision) this.#state = state;
  }

  /** The gallery as this server last saw it: at the latest when it was looked up. */
  describe(): GalleryDescription {
    return descriptionOf(this.#state, this.#isClosed);
  }

  async enroll(
    enrollments: readonly Enrollment[],
    options: EnrollOptions = {},
  ): Promise<EnrollOutcome> {
    const { onExisting = "replace", inTransaction: within } = options;
    this.#assertOpen();
    await this.#room.ask();
    const named = enrollments.map((enrollment) => ({
      ...enrollment,
      entryId: enrollment.entryId ?? this.#context.newEntryId(),
    }));
    return this.#writes.write(
      named.map(({ entryId }) => entryId),
      (draft) => {
        const results = named.map((one) => draft.enroll(one, onExisting));
        return { results, sequence: draft.record.sequence };
      },
      within,
    );
  }

  async search(request: SearchRequest): Promise<SearchOutcome> {
    this.#assertOpen();
    const { number, record } = this.#state;
    const { minSequence = 0, freshness, signal } = request;
    checkQueries(record, request);
    if (freshness === "indexed" && minSequence > 0) {
      checkSequence(await this.#record(this.#context.postgres), request);
      await this.#context.outbox.settled(number, minSequence, signal);
    }
    return this.#atOneState(signal, async (scope) => {
      const { sequence } = scope.record;
      checkSequence(scope.record, request);
      const { group } = request;
      const found =
        group === undefined
          ? await searchScaled(scope, request)
          : await searchScaledGroups(scope, { ...request, group });
      return { results: found.map((one) => hitsOf(one, request)), sequence };
    }).catch((error: unknown) => {
      if (error instanceof MilvusUnavailableError)
        this.#context.outbox.suspect(number);
      throw error;
    });
  }

  async getEntry(entryId: string, view: EntryView = "basic"): Promise<Entry> {
    this.#assertOpen();
    const [row] = await this.#context.postgres.query<EntryRow>(
      `SELECT ${viewColumns[view]} FROM entries
       WHERE gallery = $1 AND entry_id = $2 AND (expires_at_us IS NULL OR expires_at_us > $3)`,
      [this.#state.number, entryId, this.#nowUs()],
    );
    if (row === undefined) throw new EntryNotFoundError(this.name, entryId);
    return entryFrom(row, view);
  }

  async listEntries(page: EntryPageRequest): Promise<EntryPage> {
    this.#assertOpen();
    const { view = "basic", afterSequence = 0, pageSize } = page;
    const { text, values } = sqlFrom([page.filter], 4);
    const found = await this.#context.postgres.query<EntryRow>(
      `SELECT ${viewColumns[view]} FROM entries
       WHERE gallery = $1 AND sequence > $2
         AND (expires_at_us IS NULL OR expires_at_us > $3) AND ${text}
       ORDER BY sequence LIMIT $4`,
      [
        this.#state.number,
        afterSequence,
        this.#nowUs(),
        pageSize + 1,
        ...values,
      ],
    );
    const rows = found.slice(0, pageSize);
    return {
      entries: rows.map((row) => entryFrom(row, view)),
      nextSequence: found.length > pageSize ? rows.at(-1)?.sequence : undefined,
    };
  }

  async deleteEntries(
    selector: EntrySelector,
    within?: InTransaction<DeleteOutcome>,
  ): Promise<DeleteOutcome> {
    this.#assertOpen();
    requireConditions(this.name, selector);
    return this.#writes.alone(async (draft, session) => {
      const chosen = await selectEntries(session, this.#living(), selector);
      draft.remove(chosen);
      return {
        deletedCount: chosen.length,
        sequence: draft.record.sequence,
      };
    }, within);
  }

  async updateEntries(
    selector: EntrySelector,
    changes: EntryChanges,
  ): Promise<UpdateOutcome> {
    this.#assertOpen();
    requireConditions(this.name, selector);
    return this.#writes.alone(async (draft, session) => {
      const updated = await updateSelected(session, {
        ...this.#living(),
        ...{ draft, selector, changes },
      });
      return { ...updated, sequence: draft.record.sequence };
    }, undefined);
  }

  async listIdentities(page: IdentitiesPage): Promise<IdentityPage> {
    this.#assertOpen();
    return identitiesPage(this.#context.postgres, this.#living(), page);
  }

  /** Deletes what has expired. */
  async sweep(): Promise<void> {
    await this.#writes.alone(async () => undefined, undefined);
  }

  /** @throws {EngineUnsupportedError} Milvus has no such index */
  async update(changes: GalleryChanges): Promise<void> {
    this.#assertOpen();
    const { index } = changes;
    const { dimension } = this.#state.record;
    if (index !== undefined && index !== "auto")
      milvusIndexOf(index, dimension);
    const { flatBelow } = this.#context;
    await this.#writes.alone(async (draft) => {
      draft.change((record) => changedScaled(record, changes, flatBelow));
    }, undefined);
  }

  async keepIndex(): Promise<void> {
    this.#assertOpen();
    await this.#writes.alone(async (draft) => {
      draft.change(({ nextIndex: _, ...record }) => record);
    }, undefined);
  }

  async rebuild(options: RebuildOptions = {}): Promise<void> {
    this.#assertOpen();
    const { flatBelow } = this.#context;
    const { number } = this.#state;
    const record = await rebuildCollection(
      this.#context,
      { number, name: this.name },
      (now) => wantedIndexOf(now, flatBelow) ?? now.index,
      options,
    );
    this.see({ ...this.#state, record });
  }

  /** Deletes an identity's entries; those of other servers see it with the next of their reads. */
  async forget(
    identity: string,
    within: InTransaction<readonly ForgottenEntry[]>,
  ): Promise<readonly ForgottenEntry[]> {
    this.#assertOpen();
    return this.#writes.alone(async (draft, session) => {
      const { number } = this.#state;
      const rows = await entriesOfIdentity(session, number, identity);
      draft.remove(rows);
      return rows;
    }, within);
  }

  /** @throws {EngineUnsupportedError} */
  async snapshot(): Promise<void> {
    throw new EngineUnsupportedError(
      "a snapshot of an index",
      "none is needed: Milvus keeps its indexes itself",
    );
  }

  async rowsOf(identity: string): Promise<readonly ForgottenEntry[]> {
    const { postgres } = this.#context;
    return entriesOfIdentity(postgres, this.#state.number, identity);
  }

  /** Waits until Milvus holds every write acknowledged so far. */
  async indexed(): Promise<void> {
    const { number, record } = this.#state;
    await this.#context.outbox.settled(number, record.sequence);
  }

  /** Finishes the writes under way; idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#writes.idle();
  }

  /** Takes note of a write of this server's. */
  #committed(record: ScaledRecord): void {
    const { number, oldestWaiting } = this.#state;
    this.see({
      ...{ number, record },
      oldestWaiting: oldestWaiting ?? record.sequence,
    });
    if (this.#isOutgrown || this.wantedIndex === undefined) return;
    this.#isOutgrown = true;
    this.#context.onOutgrown(this.name);
  }

  /** Searches look at one state of PostgreSQL, and no vector leaves Milvus before they are done. */
  #atOneState<Result>(
    signal: AbortSignal | undefined,
    action: (scope: ScaledScope) => Promise<Result>,
  ): Promise<Result> {
    const { number } = this.#state;
    const { postgres, searches } = this.#context;
    const work = async (session: Session): Promise<Result> => {
      const keys = [locks.gate, number];
      await session.query("SELECT pg_advisory_lock_shared($1, $2)", keys);
      try {
        return await inTransaction(
          session,
          async () =>
            action({
              context: this.#context,
              session,
              number,
              record: await this.#record(session),
              nowUs: this.#nowUs(),
            }),
          "snapshot",
        );
      } finally {
        await session.query("SELECT pg_advisory_unlock_shared($1, $2)", keys);
      }
    };
    return searches.hold(() => postgres.session(work), signal);
  }

  async #record(session: Session): Promise<ScaledRecord> {
    const [row] = await session.query<{ record: ScaledRecord }>(
      "SELECT record FROM galleries WHERE number = $1",
      [this.#state.number],
    );
    if (row === undefined) throw new GalleryNotFoundError(this.name);
    return row.record;
  }

  /**
   * Waits while Milvus lacks more entries than searches may compare one by one.
   *
   * @throws {MilvusUnavailableError} it takes none
   */
  async #waitForRoom(): Promise<void> {
    const { postgres, outbox, tail } = this.#context;
    const { number } = this.#state;
    const startedMs = performance.now();
    for (;;) {
      const [{ count }] = await postgres.query<{ count: number }>(
        "SELECT count(*) AS count FROM (SELECT 1 FROM outbox WHERE gallery = $1 AND NOT removed LIMIT $2) AS few",
        [number, tail + 1],
      );
      if (count <= tail) return;
      outbox.wake(number);
      await delay(pollMs);
      this.#assertOpen();
      const failure = outbox.refusal(number, startedMs);
      if (failure !== undefined) throw failure;
    }
  }

  #living(): Living {
    return { number: this.#state.number, nowUs: this.#nowUs() };
  }

  #nowUs(): number {
    return Math.round(this.#context.clock.now() * 1000);
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new ClosedError(`gallery "${this.name}"`);
  }
}

function hitsOf(
  { hits, exact }: ScaledHits,
  { view = "basic", withFeatures }: SearchRequest,
): QueryHits {
  const entries = hits.map(({ row, similarity }) => ({
    entry: entryFrom(row, view),
    similarity,
  }));
  if (withFeatures !== true) return { hits: entries, exact };
  const rows = hits.map(({ row }) =>
    featureFromBytes(row.feature ?? Buffer.alloc(0)),
  );
  const features = new Float32Array(
    rows.reduce((sum, row) => sum + row.length, 0),
  );
  let at = 0;
  for (const row of rows) {
    features.set(row, at);
    at += row.length;
  }
  return { hits: entries, exact, features };
}
