import { readFile } from "node:fs/promises";
import { entryRoles, judgeQuery } from "#train/evaluation";
import { RemoteError, type ErrorKind, type ReidError } from "#core/errors";
import { statusOf } from "#serve/status";
import type { Client } from "./client.js";
import { pagesOf } from "./pages.js";

/** A crop on disk with what is known of it. */
export interface LabelledCrop {
  readonly path: string;
  /** Empty: unknown. */
  readonly identity: string;
  readonly cameraId: string;
}

/** How crops are sent. */
export interface TransferOptions {
  readonly signal: AbortSignal;
  /** Called with the number of crops done. */
  readonly onProgress?: (done: number) => void;
}

/** One query's answer. */
export interface WireHits {
  readonly query: LabelledCrop;
  readonly hits: readonly {
    readonly entryId: string;
    readonly identity: string;
    readonly cameraId: string;
    /** [−1, 1], larger is closer. */
    readonly similarity: number;
    /** [0, 1], smaller is closer; only where the hits are re-ranked. */
    readonly rerankDistance?: number;
  }[];
  readonly error: ReidError | undefined;
}

/** Retrieval as the wire's answers show it. */
export interface WireEvaluation {
  /** [0, 1]. */
  readonly mAP: number;
  /** By rank. */
  readonly cmc: Readonly<Record<"1" | "5" | "10", number>>;
  readonly queries: number;
  /** Queries without any correct entry, left out. */
  readonly skippedQueries: number;
}

/** Hits that a query may ask for, and a call's queries together: docs/api.md. */
export const MAX_HITS = 10_000;
/** Hits a query that may be re-ranked. */
export const MAX_RERANKED = 1000;

const CROPS_A_CALL = 64;
const ENTRIES_A_PAGE = 1000;
const SEARCH_DEADLINE_MS = 120_000;

/** What crops are searched in, and how. */
export interface SearchSettings {
  readonly gallery: string;
  /** 1 to `MAX_HITS`; to `MAX_RERANKED` with `reranked`; identities with `hitsPerIdentity`. */
  readonly k: number;
  /** Hits come identity by identity, at most so many of each. */
  readonly hitsPerIdentity?: number | undefined;
  /** Whether hits are ordered by re-ranked distance. */
  readonly reranked?: boolean;
}

/** Searches with crops, k hits each, as many a call as the server allows. */
export async function searchCrops(
  client: Client,
  from: SearchSettings,
  queries: readonly LabelledCrop[],
  options: TransferOptions & {
    /** `removed` leaves out entries with the query's identity and camera: the junk rule of Market-1501. */
    readonly sameCamera?: "removed" | "kept";
  },
): Promise<readonly WireHits[]> {
  const { k, hitsPerIdentity } = from;
  const most = Math.floor(MAX_HITS / (k * (hitsPerIdentity ?? 1)));
  const share = Math.max(1, Math.min(CROPS_A_CALL, most));
  const found: WireHits[] = [];
  for (let start = 0; start < queries.length; start += share) {
    const batch = queries.slice(start, start + share);
    const { results } = await client.SearchService.Search(
      {
        gallery: from.gallery,
        k,
        group: hitsPerIdentity === undefined ? null : { hitsPerIdentity },
        rerank: from.reranked === true ? {} : null,
        queries: await Promise.all(
          batch.map(async ({ path, identity, cameraId }) => ({
            crop: { encoded: await readFile(path), cameraId },
            ...(options.sameCamera === "removed"
              ? { filter: { notBoth: { identity, cameraId } } }
              : {}),
          })),
        ),
      },
      { signal: options.signal, deadlineMs: SEARCH_DEADLINE_MS },
    );
    results.forEach(({ hits, identities, error }, i) => {
      found.push({
        query: batch[i],
        hits: [...hits, ...identities.flatMap((group) => group.hits)].map(
          ({ entry, similarity, rerankDistance }) => ({
            entryId: entry?.entryId ?? "",
            identity: entry?.identity ?? "",
            cameraId: entry?.cameraId ?? "",
            similarity,
            ...(rerankDistance === undefined ? {} : { rerankDistance }),
          }),
        ),
        error: error === null ? undefined : failureError(error),
      });
    });
    options.onProgress?.(start + batch.length);
  }
  return found;
}

/**
 * Counts a gallery's correct entries for any query: its identity under another camera. Reads every entry once.
 *
 * @returns  number of correct entries of a query, by its identity and camera
 */
export async function countCorrect(
  client: Client,
  gallery: string,
  signal: AbortSignal,
): Promise<(query: LabelledCrop) => number> {
  const byIdentity = new Map<string, Map<string, number>>();
  const pages = pagesOf((pageToken) =>
    client.GalleryService.ListEntries(
      { gallery, pageSize: ENTRIES_A_PAGE, pageToken },
      { signal },
    ),
  );
  for await (const { entries } of pages)
    for (const { identity, cameraId } of entries) {
      const byCamera = byIdentity.get(identity) ?? new Map<string, number>();
      byIdentity.set(identity, byCamera);
      byCamera.set(cameraId, (byCamera.get(cameraId) ?? 0) + 1);
    }
  return ({ identity, cameraId }) => {
    const byCamera = byIdentity.get(identity) ?? new Map<string, number>();
    const all = [...byCamera.values()].reduce((sum, count) => sum + count, 0);
    return all - (byCamera.get(cameraId) ?? 0);
  };
}

/**
 * mAP and CMC of answers, by the protocol of `reid eval`.
 *
 * Distance is the re-ranked one where there is one, else 2 − 2·similarity; entries left out by the filter do not count, as `removed` ones do not there.
 *
 * @param correctOf  correct entries of a query, found or not; left out: the answers hold every entry that counts.
 *                   Those not found add nothing to a query's average precision, so mAP is a lower bound
 */
export function evaluateHits(
  answers: readonly WireHits[],
  correctOf?: (query: LabelledCrop) => number,
): WireEvaluation {
  let precision = 0;
  let judged = 0;
  const within = { "1": 0, "5": 0, "10": 0 };
  for (const { query, hits } of answers) {
    const roles = Uint8Array.from(hits, ({ identity }) =>
      identity === query.identity ? entryRoles.correct : entryRoles.wrong,
    );
    const found = roles.filter((role) => role === entryRoles.correct).length;
    // An entry enrolled between the count and the search is found and not counted.
    const correct = Math.max(found, correctOf?.(query) ?? found);
    if (correct === 0) continue;
    judged++;
    const figures = judgeQuery(
      Float32Array.from(
        hits,
        ({ similarity, rerankDistance = 2 - 2 * similarity }) => rerankDistance,
      ),
      roles,
    );
    if (figures === undefined) continue;
    precision += (figures.averagePrecision * found) / correct;
    if (figures.firstRank <= 1) within["1"]++;
    if (figures.firstRank <= 5) within["5"]++;
    if (figures.firstRank <= 10) within["10"]++;
  }
  const share = (count: number) => (judged === 0 ? 0 : count / judged);
  return {
    mAP: share(precision),
    cmc: {
      "1": share(within["1"]),
      "5": share(within["5"]),
      "10": share(within["10"]),
    },
    queries: answers.length,
    skippedQueries: answers.length - judged,
  };
}

/** An item's failure as an error. */
export function failureError(failure: {
  readonly reason: string;
  readonly code: number;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}): ReidError {
  const kind = Object.entries(statusOf).find(
    ([, code]) => code === failure.code,
  )?.[0] as ErrorKind | undefined;
  return new RemoteError({
    name: "ItemError",
    code: failure.reason,
    kind: kind ?? "internal",
    message: failure.message,
    facts: failure.metadata,
  });
}
