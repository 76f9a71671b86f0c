import {
  FailedRun,
  hasFlag,
  numberFlag,
  requiredFlag,
  textFlag,
  UsageError,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../command.js";
import {
  connectionOptions,
  cropFiles,
  CropsRefusedError,
  labelledCrops,
  withClient,
} from "../connection.js";
import {
  countCorrect,
  evaluateHits,
  MAX_HITS,
  MAX_RERANKED,
  searchCrops,
  type SearchSettings,
} from "../retrieval.js";

const DEFAULT_K = 10;

/** `reid search`: who is like these crops. */
export const command: Command = {
  name: "search",
  summary: "search a gallery with crops, or judge a whole query folder",
  usage: "--gallery NAME FILES…|--data DIR [-k N] [flags]",
  options: {
    ...connectionOptions,
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery",
    },
    data: {
      type: "string",
      placeholder: "DIR",
      description:
        "Market-1501 folder: every query is searched and mAP is computed from the answers",
    },
    k: {
      type: "string",
      short: "k",
      placeholder: "N",
      description:
        "hits a query; default 10, with --data the whole gallery or its nearest 10000",
    },
    group: {
      type: "string",
      placeholder: "N",
      description: "count identities in -k, and show at most N hits of each",
    },
    rerank: {
      type: "boolean",
      description:
        "order hits by k-reciprocal re-ranked distance; at most 1000 a query",
    },
  },
  takesPaths: true,
  run,
};

async function run(context: CommandContext): Promise<JsonObject | FailedRun> {
  const { flags, positionals } = context;
  const gallery = requiredFlag(flags, "gallery");
  const data = textFlag(flags, "data");
  if (data !== undefined && positionals.length > 0)
    throw new UsageError("give files or --data, not both", positionals[0]);
  const reranked = hasFlag(flags, "rerank");
  const k = numberFlag(flags, "k", {
    minimum: 1,
    maximum: reranked ? MAX_RERANKED : MAX_HITS,
    integer: true,
  });
  const hitsPerIdentity = numberFlag(flags, "group", {
    minimum: 1,
    maximum: 100,
    integer: true,
  });
  if (data === undefined) {
    const settings = { gallery, k: k ?? DEFAULT_K, hitsPerIdentity, reranked };
    return searchFiles(context, settings);
  }
  if (hitsPerIdentity !== undefined)
    throw new UsageError("--data judges single hits: leave --group out");
  return judgeFolder(context, { gallery, data, k, reranked });
}

async function searchFiles(
  context: CommandContext,
  settings: SearchSettings,
): Promise<JsonObject | FailedRun> {
  const { out, signal, positionals } = context;
  const files = await cropFiles(positionals);
  const queries = files.map((path) => ({ path, identity: "", cameraId: "" }));
  return withClient(context, async (client) => {
    const answers = await searchCrops(client, settings, queries, { signal });
    for (const { query, hits, error } of answers) {
      out.line(
        `${query.path}${error === undefined ? "" : `: ${error.message}`}`,
      );
      if (hits.length === 0) continue;
      out.table([
        [
          ...["#", "entry", "identity", "camera", "similarity"],
          ...(settings.reranked === true ? ["re-ranked"] : []),
        ],
        ...hits.map((hit, i) => [
          i + 1,
          hit.entryId,
          hit.identity === "" ? "-" : hit.identity,
          hit.cameraId === "" ? "-" : hit.cameraId,
          hit.similarity.toFixed(4),
          ...(hit.rerankDistance === undefined
            ? []
            : [hit.rerankDistance.toFixed(4)]),
        ]),
      ]);
    }
    const result = {
      gallery: settings.gallery,
      results: answers.map(({ query, hits, error }) => ({
        file: query.path,
        hits: hits.map((hit) => ({ ...hit })),
        ...(error === undefined
          ? {}
          : { reason: error.code, message: error.message }),
      })),
    };
    const reasons = answers.flatMap(({ error }) => error?.code ?? []);
    return reasons.length === answers.length
      ? new FailedRun(new CropsRefusedError("searched with", reasons), result)
      : result;
  });
}

async function judgeFolder(
  context: CommandContext,
  from: {
    readonly gallery: string;
    readonly data: string;
    readonly k: number | undefined;
    readonly reranked: boolean;
  },
): Promise<JsonObject> {
  const { out, signal } = context;
  const queries = await labelledCrops(from.data, "query");
  return withClient(context, async (client) => {
    const { gallery } = await client.GalleryService.GetGallery({
      gallery: from.gallery,
    });
    const entries = Number(gallery?.entryCount ?? 0);
    const most = from.reranked ? MAX_RERANKED : MAX_HITS;
    const k = from.k ?? Math.min(most, Math.max(1, entries));
    const progress = out.progress("search", queries.length);
    const answers = await searchCrops(
      client,
      { gallery: from.gallery, k, reranked: from.reranked },
      queries,
      {
        signal,
        sameCamera: "removed",
        onProgress: (done) => progress.update(done),
      },
    );
    progress.end();
    const failed = answers.find(({ error }) => error !== undefined);
    if (failed?.error !== undefined) throw failed.error;
    // Answers that end before the gallery does may miss correct entries: those are counted without them.
    const isCut = k < entries;
    const figures = evaluateHits(
      answers,
      isCut ? await countCorrect(client, from.gallery, signal) : undefined,
    );
    out.table([
      ["queries", "gallery", "mAP", "rank-1", "rank-5", "rank-10"],
      [
        figures.queries,
        entries,
        figures.mAP.toFixed(4),
        figures.cmc["1"].toFixed(4),
        figures.cmc["5"].toFixed(4),
        figures.cmc["10"].toFixed(4),
      ],
    ]);
    if (isCut)
      out.line(
        `only the nearest ${k} of ${entries} entries are judged: mAP is a lower bound`,
      );
    return { ...figures, k, gallery: entries };
  });
}
