import { setTimeout as delay } from "node:timers/promises";

import { ClosedError } from "#core/errors";
import { Postgres, UniqueViolation, type Session } from "#core/postgres";

import {
  GalleryExistsError,
  GalleryLimitError,
  GalleryNotFoundError,
} from "./errors.js";
import type { Forgotten } from "./forgetting.js";
import type { Galleries } from "./galleries.js";
import {
  defaultMaxGalleries,
  gallerySettings,
  sweepEveryMs,
  type GallerySettingsGiven,
} from "./gallery-settings.js";
import type {
  GalleryDescription,
  GallerySpec,
  InTransaction,
} from "./gallery-types.js";
import { flatSpec, hnswDefaults } from "./index-kinds.js";
import { Milvus, type MilvusOptions } from "./milvus.js";
import { milvusIndexOf } from "./milvus-index.js";
import { Places } from "./places.js";
import type { PostgresOptions } from "#core/postgres";
import { ScaledCollections } from "./scaled-collections.js";
import type { ScaledContext } from "./scaled-context.js";
import { EngineUnsupportedError } from "./scaled-errors.js";
import { forgetScaled } from "./scaled-forgetting.js";
import { ScaledGallery } from "./scaled-gallery.js";
import { SearchGate } from "./scaled-gate.js";
import { ScaledOutbox } from "./scaled-outbox.js";
import {
  collectionOf,
  descriptionOf,
  selectGalleries,
  strayCollections,
  type ScaledRecord,
  type ScaledState,
} from "./scaled-records.js";
import { ScaledRequestLog } from "./scaled-requests.js";
import { migrate } from "./scaled-schema.js";
import { SqlWriter } from "./scaled-writer.js";

/** Settings of all galleries of a deployment. */
export interface ScaledGalleriesOptions extends GallerySettingsGiven {
  readonly postgres: PostgresOptions;
  readonly milvus: MilvusOptions;
  /** Default 256. */
  readonly maxGalleries?: number;
}

/** What another server left in the outbox when it died waits no longer than this. */
const outboxEveryMs = 1000;
/** A database that takes longer for a word does not answer. */
const answersWithinMs = 5000;

/** The galleries of one deployment: PostgreSQL holds the truth, Milvus an index over it, servers hold nothing. */
export class ScaledGalleries implements Galleries {
  readonly requests: ScaledRequestLog;
  /** For what servers share beside their galleries; closed with them. */
  readonly postgres: Postgres;
  readonly #context: ScaledContext;
  readonly #maxGalleries: number;
  readonly #galleries = new Map<number, ScaledGallery>();
  readonly #timers: readonly NodeJS.Timeout[];
  #closed: Promise<void> | undefined;

  private constructor(context: ScaledContext, maxGalleries: number) {
    this.#context = context;
    this.#maxGalleries = maxGalleries;
    this.postgres = context.postgres;
    this.requests = new ScaledRequestLog(context.postgres, context.clock);
    const every = (ms: number, what: string, work: () => Promise<void>) => {
      let isUnderWay = false;
      const timer = setInterval(() => {
        if (isUnderWay) return;
        isUnderWay = true;
        work()
          .catch((error: unknown) => context.log.warn(what, { error }))
          .finally(() => (isUnderWay = false));
      }, ms);
      return timer.unref();
    };
    this.#timers = [
      every(sweepEveryMs, "expired entries stay for now", () => this.sweep()),
      every(outboxEveryMs, "entries wait for Milvus", () =>
        context.outbox.wakeAll(),
      ),
      every(outboxEveryMs, "what was dropped stays in Milvus for now", () =>
        context.collections.sweep(),
      ),
    ];
  }

  /**
   * Connects to both, brings the schema to this version and fills collections that are gone again.
   *
   * @throws {PackageMissingError} @throws {ConfigError} @throws {DatabaseUnavailableError}
   * @throws {MilvusUnavailableError}
   */
  static async open(options: ScaledGalleriesOptions): Promise<ScaledGalleries> {
    const { log } = options;
    const postgres = await Postgres.open(options.postgres);
    let milvus: Milvus | undefined;
    try {
      milvus = await Milvus.open(options.milvus);
      const deployment = await migrate(postgres);
      const gate = new SearchGate();
      const shared = { postgres, milvus, deployment, log };
      const collections = new ScaledCollections({ ...shared, gate });
      const galleries = new ScaledGalleries(
        {
          ...gallerySettings(options),
          ...shared,
          collections,
          outbox: new ScaledOutbox({ ...shared, collections, gate }),
          // The other half stays for what needs no Milvus, should it not answer.
          searches: new Places(
            Math.max(1, Math.floor(postgres.connections / 2)),
          ),
        },
        options.maxGalleries ?? defaultMaxGalleries,
      );
      for (const { number } of await galleries.list())
        await collections.heal(number);
      return galleries;
    } catch (error) {
      await milvus?.close();
      await postgres.close();
      throw error;
    }
  }

  /** @throws {EngineUnsupportedError} Milvus has no such index; what `GalleryStore.create` throws */
  async create(
    spec: GallerySpec,
    within?: InTransaction<GalleryDescription>,
  ): Promise<ScaledGallery> {
    this.#assertOpen();
    const { postgres, milvus, deployment, searches } = this.#context;
    const record = this.#recordOf(spec);
    milvusIndexOf(record.index, record.dimension);
    const make = async (session: Session): Promise<ScaledState> => {
      const [{ count }] = await session.query<{ count: number }>(
        "SELECT count(*) AS count FROM galleries",
      );
      if (count >= this.#maxGalleries)
        throw new GalleryLimitError(this.#maxGalleries);
      const [{ number }] = await session
        .query<{ number: number }>(
          "INSERT INTO galleries (name, record) VALUES ($1, $2) RETURNING number",
          [spec.name, JSON.stringify(record)],
        )
        .catch((error: unknown) => {
          throw error instanceof UniqueViolation
            ? new GalleryExistsError(spec.name)
            : error;
        });
      // Before the commit: a gallery that anybody can see has its collection.
      await milvus.ensure(
        collectionOf(deployment, number),
        record.index,
        record.dimension,
      );
      const made: ScaledState = { number, record, oldestWaiting: null };
      const writer = new SqlWriter();
      within?.(writer, descriptionOf(made, false));
      await writer.run(session);
      return made;
    };
    return this.#seen(await searches.hold(() => postgres.transaction(make)));
  }

  /** @throws {EngineUnsupportedError} */
  async restore(): Promise<never> {
    throw new EngineUnsupportedError(
      "restoring a backup",
      "restore PostgreSQL, and drop the collections: they are filled again at the next start",
    );
  }

  async get(name: string): Promise<ScaledGallery> {
    this.#assertOpen();
    const [state] = await this.#context.postgres.query<ScaledRow>(
      `${selectGalleries} WHERE name = $1`,
      [name],
    );
    if (state === undefined) {
      this.#lose(name);
      throw new GalleryNotFoundError(name);
    }
    return this.#seen(state);
  }

  async list(): Promise<readonly ScaledGallery[]> {
    this.#assertOpen();
    const states = await this.#context.postgres.query<ScaledRow>(
      `${selectGalleries} ORDER BY name`,
    );
    const numbers = new Set(states.map(({ number }) => number));
    for (const number of this.#galleries.keys())
      if (!numbers.has(number)) this.#galleries.delete(number);
    return states.map((state) => this.#seen(state));
  }

  known(): readonly ScaledGallery[] {
    this.#assertOpen();
    return [...this.#galleries.values()].sort((a, b) =>
      a.name < b.name ? -1 : 1,
    );
  }

  /** Whether PostgreSQL does, within some seconds; without Milvus writes and reads of entries go on. */
  answers(): Promise<boolean> {
    const { postgres } = this.#context;
    return Promise.race([
      postgres.query("SELECT 1").then(
        () => true,
        () => false,
      ),
      delay(answersWithinMs, false, { ref: false }),
    ]);
  }

  async delete(name: string): Promise<void> {
    this.#assertOpen();
    const { postgres, collections, deployment, log } = this.#context;
    await postgres.transaction(async (session) => {
      const [gone] = await session.query<{
        number: number;
        record: ScaledRecord;
      }>("DELETE FROM galleries WHERE name = $1 RETURNING number, record", [
        name,
      ]);
      if (gone === undefined) throw new GalleryNotFoundError(name);
      const { generation } = gone.record;
      await session.query(
        "INSERT INTO dropped_collections (name, gallery) SELECT name, $1 FROM unnest($2::text[]) AS name ON CONFLICT DO NOTHING",
        [
          gone.number,
          [
            collectionOf(deployment, gone.number, generation),
            ...strayCollections(deployment, gone.number, gone.record),
          ],
        ],
      );
      await session.query("INSERT INTO dropped (gallery) VALUES ($1)", [
        gone.number,
      ]);
    });
    this.#lose(name);
    await collections.sweep().catch((error: unknown) => {
      log.warn("what is left of a deleted gallery stays for now", {
        gallery: name,
        error,
      });
    });
  }

  /** @throws {GalleryNotFoundError} @throws {DatabaseUnavailableError} */
  async forget(identity: string, gallery?: string): Promise<Forgotten> {
    const galleries =
      gallery === undefined ? await this.list() : [await this.get(gallery)];
    return forgetScaled(this.#context, identity, {
      ...{ galleries, gallery: gallery ?? "" },
      requests: this.requests,
    });
  }

  async sweep(): Promise<void> {
    if (this.#closed !== undefined) return;
    const { postgres, clock } = this.#context;
    for (const gallery of await this.list()) {
      const over = async () => {
        const rows = await postgres.query(
          "SELECT 1 FROM entries WHERE gallery = $1 AND expires_at_us <= $2 LIMIT 1",
          [gallery.number, Math.round(clock.now() * 1000)],
        );
        return rows.length > 0;
      };
      while (await over()) await gallery.sweep();
    }
    await this.requests.sweep();
  }

  /** Finishes what is under way and disconnects; what Milvus does not have yet the other servers bring. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      for (const timer of this.#timers) clearInterval(timer);
      const { outbox, milvus, postgres } = this.#context;
      for (const gallery of this.#galleries.values()) await gallery.close();
      await outbox.close();
      await milvus.close();
      await postgres.close();
    })();
    return this.#closed;
  }

  #recordOf(spec: GallerySpec): ScaledRecord {
    return {
      name: spec.name,
      model: spec.model,
      dimension: spec.dimension,
      modelPolicy: spec.modelPolicy ?? "pinned",
      ...(spec.index === "auto"
        ? { index: flatSpec, autoIndex: true as const }
        : { index: spec.index ?? hnswDefaults }),
      cropRetention: spec.cropRetention ?? "none",
      defaultTtlMs: spec.defaultTtlMs ?? null,
      maxEntries: spec.maxEntries ?? 1_000_000,
      tags: spec.tags ?? {},
      createdAtUs: Math.round(this.#context.clock.now() * 1000),
      sequence: 0,
      entryCount: 0,
      identityCount: 0,
    };
  }

  #seen(state: ScaledState): ScaledGallery {
    const known = this.#galleries.get(state.number);
    if (known !== undefined) {
      known.see(state);
      return known;
    }
    const gallery = new ScaledGallery(this.#context, state);
    this.#galleries.set(state.number, gallery);
    return gallery;
  }

  #lose(name: string): void {
    for (const [number, gallery] of this.#galleries)
      if (gallery.name === name) this.#galleries.delete(number);
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw new ClosedError("galleries");
  }
}

type ScaledRow = ScaledState & Readonly<Record<string, unknown>>;
