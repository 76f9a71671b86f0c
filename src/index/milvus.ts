import { setTimeout as delay } from "node:timers/promises";

import type * as Sdk from "@zilliz/milvus2-sdk-node";
import type { MilvusClient, ResStatus } from "@zilliz/milvus2-sdk-node";

import { parseAddress, showAddress } from "#core/address";
import { PackageMissingError } from "#core/postgres-errors";

import type { IndexSpec } from "./index-kinds.js";
import { milvusEffort, milvusIndexOf } from "./milvus-index.js";
import { MilvusUnavailableError } from "./scaled-errors.js";

/** Settings of the connection. */
export interface MilvusOptions {
  /** HOST:PORT. */
  readonly address: string;
  /** `user:password` or an API key; none: the server asks for none. */
  readonly token?: string;
}

/** One entry as a collection holds it: its feature and what filters ask for. */
export interface MilvusRow {
  /** The entry's sequence. */
  readonly id: number;
  /** float32 [D]; only read. */
  readonly feature: Float32Array;
  readonly entry_id: string;
  readonly identity: string;
  readonly camera_id: string;
  readonly track_id: string;
  /** Microseconds since 1970; {@link noTime} where unknown. */
  readonly captured_at: number;
  readonly attributes: Readonly<Record<string, string>>;
}

/** One search of a collection. */
export interface MilvusSearch {
  /** [Q], each float32 [D]; only read. */
  readonly queries: readonly Float32Array[];
  /** 1 to {@link milvusLimit}. */
  readonly limit: number;
  /** A boolean expression; empty: every row. */
  readonly expression: string;
  readonly spec: IndexSpec;
  readonly effort: number | undefined;
  /** `strong` sees every write that Milvus has answered; `bounded` may be some seconds behind. */
  readonly consistency: "strong" | "bounded";
}

/** Sequences found, closest first. */
export interface MilvusHits {
  readonly ids: readonly number[];
  /** Inner products, falling. */
  readonly similarities: readonly number[];
}

/** Rows one search may return: Milvus' own limit. */
export const milvusLimit = 16_384;

/** Stands for a time that is not known: before every Timestamp that protobuf can write, and exact as a number. */
export const noTime = -900_000_000_000_000_000;

/** Between two looks at an index that is being built, or a collection that is being loaded. */
const pollMs = 50;

const door = "@zilliz/milvus2-sdk-node";

/** Ids are at most 128 bytes (api.md section 2). */
const textLength = 128;

async function loadSdk(): Promise<typeof Sdk> {
  try {
    return (await import(door)) as typeof Sdk;
  } catch (error) {
    throw new PackageMissingError(door, "index.engine: milvus", {
      cause: error,
    });
  }
}

/** Collections of one Milvus server, one for each gallery. */
export class Milvus {
  readonly #sdk: typeof Sdk;
  readonly #client: MilvusClient;

  private constructor(sdk: typeof Sdk, client: MilvusClient) {
    this.#sdk = sdk;
    this.#client = client;
  }

  /**
   * @throws {PackageMissingError} the SDK is not installed
   * @throws {ConfigError} the address is none
   * @throws {MilvusUnavailableError} nobody answers there
   */
  static async open({ address, token }: MilvusOptions): Promise<Milvus> {
    const target = showAddress(parseAddress(address, "index.milvus.address"));
    const sdk = await loadSdk();
    const client = new sdk.MilvusClient({
      address: target,
      logLevel: "error",
      maxRetries: 3,
      timeout: 30_000,
      ...(token === undefined ? {} : { token }),
    });
    const milvus = new Milvus(sdk, client);
    try {
      await milvus.#call("connect", () => client.connectPromise);
    } catch (error) {
      await milvus.close().catch(() => undefined);
      throw error;
    }
    return milvus;
  }

  /** Whether a collection is there. @throws {MilvusUnavailableError} */
  async has(name: string): Promise<boolean> {
    const { value } = await this.#call("look for a collection", () =>
      this.#client.hasCollection({ collection_name: name }),
    );
    return value === true;
  }

  /**
   * Makes and loads a gallery's collection where it is not there.
   *
   * @throws {EngineUnsupportedError} Milvus has no such index
   * @throws {MilvusUnavailableError}
   */
  async ensure(
    name: string,
    spec: IndexSpec,
    dimension: number,
  ): Promise<void> {
    const { DataType } = this.#sdk;
    const client = this.#client;
    const index = milvusIndexOf(spec, dimension);
    const text = (field: string) => ({
      name: field,
      data_type: DataType.VarChar,
      max_length: textLength,
    });
    if (!(await this.has(name)))
      await this.#call("create a collection", () =>
        client.createCollection({
          collection_name: name,
          // The SDK takes Strong, which is 0, for "not given" in a search: it has to be the collection's own.
          consistency_level: "Strong",
          fields: [
            { name: "id", data_type: DataType.Int64, is_primary_key: true },
            {
              name: "feature",
              data_type: DataType.FloatVector,
              dim: dimension,
            },
            text("entry_id"),
            text("identity"),
            text("camera_id"),
            text("track_id"),
            { name: "captured_at", data_type: DataType.Int64 },
            { name: "attributes", data_type: DataType.JSON },
          ],
        }),
      );
    await this.#call("create an index", () =>
      client.createIndex({
        collection_name: name,
        field_name: "feature",
        metric_type: "IP",
        ...index,
      }),
    );
    await this.#load(name);
  }

  /** As the SDK does it, which looks every 400 ms and waits as long once more behind the last look. */
  async #load(name: string): Promise<void> {
    const of = { collection_name: name };
    const client = this.#client;
    await this.#call("load a collection", () => client.loadCollectionAsync(of));
    for (;;) {
      const { progress } = await this.#call("look at a collection's load", () =>
        client.getLoadingProgress(of),
      );
      if (Number(progress) >= 100) return;
      await delay(pollMs);
    }
  }

  /** Writes rows over those of their ids; repeating it changes nothing. @throws {MilvusUnavailableError} */
  async upsert(name: string, rows: readonly MilvusRow[]): Promise<void> {
    if (rows.length === 0) return;
    await this.#call("upsert", () =>
      this.#client.upsert({
        collection_name: name,
        // The SDK's types know arrays of numbers only; what it does with them works on float32 as it is.
        data: rows.map((row) => ({ ...row }) as never),
      }),
    );
  }

  /** Removes rows; what is not there is no error. @throws {MilvusUnavailableError} */
  async remove(name: string, ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return;
    await this.#call("delete", () =>
      this.#client.delete({
        collection_name: name,
        filter: `id in [${ids.join(",")}]`,
      }),
    );
  }

  /** The nearest rows of each query. @returns [Q] @throws {MilvusUnavailableError} */
  async search(
    name: string,
    search: MilvusSearch,
  ): Promise<readonly MilvusHits[]> {
    const { queries, limit, expression, consistency } = search;
    if (queries.length === 0) return [];
    const { ConsistencyLevelEnum } = this.#sdk;
    const { results } = await this.#call("search", () =>
      this.#client.search({
        collection_name: name,
        anns_field: "feature",
        data: [...queries] as never,
        limit,
        output_fields: ["id"],
        params: milvusEffort(search.spec, {
          ...{ limit, effort: search.effort },
          dimension: queries[0].length,
        }),
        ...(expression === "" ? {} : { filter: expression }),
        ...(consistency === "strong"
          ? {}
          : { consistency_level: ConsistencyLevelEnum.Bounded }),
      }),
    );
    const found = results as unknown as MilvusFound[] | MilvusFound[][];
    // The SDK unwraps the answer to one query, and answers nothing found at all with one empty list.
    const lists = Array.isArray(found[0])
      ? (found as MilvusFound[][])
      : [found as MilvusFound[]];
    return queries.map((_, i) => ({
      ids: (lists[i] ?? []).map(({ id }) => Number(id)),
      similarities: (lists[i] ?? []).map(({ score }) => score),
    }));
  }

  /** Rows of a collection that a strong read sees. @throws {MilvusUnavailableError} */
  async count(name: string): Promise<number> {
    const { data } = await this.#call("count", () =>
      this.#client.query({
        collection_name: name,
        output_fields: ["count(*)"],
        consistency_level: this.#sdk.ConsistencyLevelEnum.Strong,
      }),
    );
    return Number((data[0] as Record<string, unknown>)["count(*)"]);
  }

  /** Drops a collection; one that is not there is no error. @throws {MilvusUnavailableError} */
  async drop(name: string): Promise<void> {
    await this.#call("drop a collection", () =>
      this.#client.dropCollection({ collection_name: name }),
    );
  }

  /**
   * Waits until what a collection holds is on disk and in its index; what comes meanwhile need not be.
   *
   * @throws {MilvusUnavailableError} @throws the signal's reason
   */
  async built(name: string, signal?: AbortSignal): Promise<void> {
    const client = this.#client;
    await this.#call("flush a collection", () =>
      client.flushSync({ collection_names: [name] }),
    );
    for (;;) {
      signal?.throwIfAborted();
      const { index_descriptions: indexes } = await this.#call(
        "look at an index",
        () => client.describeIndex({ collection_name: name }),
      );
      if (indexes.every(({ state }) => state === "Finished")) return;
      await delay(pollMs);
    }
  }

  /** Asks for what was removed to leave the files of a collection; Milvus does so in its own time. */
  async compact(name: string): Promise<void> {
    const client = this.#client;
    await this.#call("flush a collection", () =>
      client.flushSync({ collection_names: [name] }),
    );
    await this.#call("compact a collection", () =>
      client.compact({ collection_name: name }),
    );
  }

  async close(): Promise<void> {
    await this.#client.closeConnection();
  }

  /** The SDK throws some failures and returns others as a status: both become one error. */
  async #call<Answer>(
    operation: string,
    call: () => Promise<Answer>,
  ): Promise<Answer> {
    let answer: Answer;
    try {
      answer = await call();
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      throw new MilvusUnavailableError(operation, cause, { cause: error });
    }
    const status = statusOf(answer);
    if (status !== undefined && status.error_code !== "Success")
      throw new MilvusUnavailableError(operation, status.reason);
    return answer;
  }
}

interface MilvusFound {
  readonly id: string;
  readonly score: number;
}

function statusOf(answer: unknown): ResStatus | undefined {
  if (typeof answer !== "object" || answer === null) return undefined;
  if ("status" in answer) return answer.status as ResStatus;
  return "error_code" in answer ? (answer as ResStatus) : undefined;
}
