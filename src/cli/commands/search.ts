import {
  FailedRun,
  numberFlag,
  requiredFlag,
  textFlag,
  UsageError,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../command.js";
import {
  addressOption,
  cropFiles,
  CropsRefusedError,
  labelledCrops,
  withClient,
} from "../connection.js";
import {
  countCorrect,
  evaluateHits,
  MAX_HITS,
  searchCrops,
} from "../retrieval.js";

const DEFAULT_K = 10;

/** `reid search`: who is like these crops. */
export const command: Command = {
  name: "search",
  summary: "search a gallery with crops, or judge a whole query folder",
  usage: "--gallery NAME FILES…|--data DIR [-k N]",
  options: {
    ...addressOption,
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
  const k = numberFlag(flags, "k", {
    minimum: 1,
    maximum: MAX_HITS,
    integer: true,
  });
  return data === undefined
    ? searchFiles(context, gallery, k ?? DEFAULT_K)
    : judgeFolder(context, { gallery, data, k });
}

async function searchFiles(
  context: CommandContext,
  gallery: string,
  k: number,
): Promise<JsonObject | FailedRun> {
  const { out, signal, positionals } = context;
  const files = await cropFiles(positionals);
  const queries = files.map((path) => ({ path, identity: "", cameraId: "" }));
  return withClient(context, async (client) => {
    const answers = await searchCrops(client, { gallery, k }, queries, {
      signal,
    });
    for (const { query, hits, error } of answers) {
      out.line(
        `${query.path}${error === undefined ? "" : `: ${error.message}`}`,
      );
      if (hits.length === 0) continue;
      out.table([
        ["#", "entry", "identity", "camera", "similarity"],
        ...hits.map((hit, i) => [
          i + 1,
          hit.entryId,
          hit.identity === "" ? "-" : hit.identity,
          hit.cameraId === "" ? "-" : hit.cameraId,
          hit.similarity.toFixed(4),
        ]),
      ]);
    }
    const result = {
      gallery,
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
  },
): Promise<JsonObject> {
  const { out, signal } = context;
  const queries = await labelledCrops(from.data, "query");
  return withClient(context, async (client) => {
    const { gallery } = await client.GalleryService.GetGallery({
      gallery: from.gallery,
    });
    const entries = Number(gallery?.entryCount ?? 0);
    const k = from.k ?? Math.min(MAX_HITS, Math.max(1, entries));
    const progress = out.progress("search", queries.length);
    const answers = await searchCrops(
      client,
      { gallery: from.gallery, k },
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
