import { groupByIdentity } from "#index/gallery-groups";
import { Turns } from "#index/turns";
import { entryToWire } from "../entries.js";
import { featureToWire } from "../features.js";
import type { Failure } from "../generated/reid/v1/Failure.js";
import type { Hit } from "../generated/reid/v1/Hit.js";
import type { SearchResult } from "../generated/reid/v1/SearchResult.js";
import { lengthHeader } from "../protobuf-bytes.js";
import type { ModelVersion } from "../registry.js";
import { serializeMessage, serializeResponse } from "./definitions.js";
import type { SearchEnvelope } from "./search-envelope.js";
import type { RankedHit, RankedHits } from "./search-ranking.js";

/** The number of `SearchResponse.results`. */
const RESULTS_FIELD = 1;
/** Hits written in one turn of the main thread: some 8 µs each. */
const writtenAtOnce = 64;

/** What one query comes to. */
export type Answer = { readonly queryId: string } & (
  | { readonly error: Failure }
  | { readonly found: RankedHits; readonly feature: Float32Array }
);

/** What all answers of a search share. */
export interface AnswerSettings {
  /** The gallery's. */
  readonly model: ModelVersion;
  readonly envelope: Pick<SearchEnvelope, "k" | "group" | "view">;
  readonly sequence: number;
}

/**
 * A SearchResponse as it is sent, written in turns: ten thousand hits hold nobody up.
 *
 * The parts of a message that is cut between two items of a list, one behind the other, are the message.
 */
export async function searchResponse(
  answers: readonly Answer[],
  { model, envelope, sequence }: AnswerSettings,
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const turns = new Turns(writtenAtOnce);
  for (const answer of answers) {
    const result: Uint8Array[] = [];
    const write = async (part: SearchResult, hits = 1): Promise<void> => {
      result.push(serializeMessage("SearchResult", part));
      if (turns.count(hits)) await turns.next();
    };
    const { queryId } = answer;
    if ("error" in answer) await write({ queryId, error: answer.error });
    else {
      const { found, feature } = answer;
      const own =
        envelope.view === "feature"
          ? featureToWire(feature, model, "f32le")
          : null;
      await write({ queryId, exact: found.exact, feature: own });
      await writeHits(found.hits, { envelope, model, write });
    }
    const length = result.reduce((sum, { length: own }) => sum + own, 0);
    parts.push(lengthHeader(RESULTS_FIELD, length), ...result);
  }
  const { name, version } = model;
  const rest = { model: { name, version }, sequence: String(sequence) };
  parts.push(serializeResponse("SearchService/Search", rest));
  return Buffer.concat(parts);
}

/** Writes hits, or the identities that they are of. */
async function writeHits(
  found: readonly RankedHit[],
  {
    envelope: { k, group },
    model,
    write,
  }: Omit<AnswerSettings, "sequence"> & {
    readonly write: (part: SearchResult, hits: number) => Promise<void>;
  },
): Promise<void> {
  const toWire = ({ entry, similarity, rerankDistance }: RankedHit): Hit => ({
    entry: entryToWire(entry, model),
    similarity,
    ...(rerankDistance === undefined ? {} : { rerankDistance }),
  });
  if (group === undefined) {
    for (let at = 0; at < found.length; at += writtenAtOnce) {
      const hits = found.slice(at, at + writtenAtOnce).map(toWire);
      await write({ hits }, hits.length);
    }
    return;
  }
  const identityOf = ({ entry }: RankedHit) => entry.identity;
  for (const { identity, hits } of await groupByIdentity(found, identityOf, {
    ...group,
    k,
  })) {
    const { similarity } = hits[0];
    const one = { identity, similarity, hits: hits.map(toWire) };
    await write({ identities: [one] }, hits.length);
  }
}
