import {
  numberFlag,
  textFlag,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../command.js";
import { connectionOptions, withClient } from "../connection.js";
import { pagesOf } from "../pages.js";
import { reclusterMemory } from "../recluster.js";

const options = {
  ...connectionOptions,
  memory: {
    type: "string",
    placeholder: "NAME",
    description: "a model's name; default the default model",
  },
} as const;

const show: Command = {
  name: "show",
  summary: "counts, state and drift of the online memory",
  usage: "[flags]",
  options,
  run: (context) =>
    withClient(context, async (client): Promise<JsonObject> => {
      const { memory } = await client.MemoryService.GetMemory({
        memory: textFlag(context.flags, "memory") ?? "",
      });
      const facts = {
        name: memory?.name ?? "",
        model: `${memory?.model?.name}/${memory?.model?.version}`,
        state: String(memory?.state ?? "")
          .replace("MEMORY_STATE_", "")
          .toLowerCase(),
        rows: memory?.rowCount ?? 0,
        maxRows: memory?.maxRows ?? 0,
        newRows: memory?.newRowCount ?? 0,
        clustering: Number(memory?.clustering ?? 0),
        clusters: memory?.clusterCount ?? 0,
        outliers: memory?.outlierCount ?? 0,
        eps: memory?.eps ?? 0,
        drift: memory?.drift ?? 0,
      };
      context.out.table([
        ["what", "value"],
        ...Object.entries(facts).map(([name, value]) => [name, String(value)]),
      ]);
      return facts;
    }),
};

const clusters: Command = {
  name: "clusters",
  summary: "clusters of the last clustering, largest first",
  usage: "[--min-size N] [flags]",
  options: {
    ...options,
    "min-size": {
      type: "string",
      placeholder: "N",
      description: "leave smaller ones out; default 2",
    },
  },
  run: listClusters,
};

const recluster: Command = {
  name: "recluster",
  summary: "cluster the memory anew and wait for it",
  usage: "[--eps E] [flags]",
  options: {
    ...options,
    eps: {
      type: "string",
      placeholder: "E",
      description: "DBSCAN's radius, Jaccard distance; default as configured",
    },
  },
  run: reclusterAndWait,
};

/** `reid memory`: what the traffic has taught a server. */
export const command: Command = {
  name: "memory",
  summary: "look at a server's online memory, or cluster it anew",
  usage: "show|clusters|recluster [flags]",
  options: {},
  subcommands: { show, clusters, recluster },
};

async function listClusters(context: CommandContext): Promise<JsonObject> {
  const { flags, out, signal } = context;
  const memory = textFlag(flags, "memory") ?? "";
  const minSize =
    numberFlag(flags, "min-size", { minimum: 1, integer: true }) ?? 2;
  return withClient(context, async (client) => {
    const found = [];
    let clustering = "0";
    const pages = pagesOf((pageToken) =>
      client.MemoryService.ListClusters(
        { memory, minSize, pageSize: 128, pageToken },
        { signal },
      ),
    );
    for await (const page of pages) {
      found.push(...page.clusters);
      clustering = page.clustering;
    }
    const shown = found.map((cluster) => ({
      clusterId: cluster.clusterId,
      pseudoIdentity: cluster.pseudoIdentity,
      size: cluster.size,
      cameras: cluster.cameraIds,
      // People read 1 − r: larger is better.
      compactness: 1 - cluster.rComp,
      independence: 1 - cluster.rIndep,
    }));
    out.table([
      [
        "cluster",
        "pseudo identity",
        "size",
        "cameras",
        "compactness",
        "independence",
      ],
      ...shown.map((one) => [
        one.clusterId,
        one.pseudoIdentity,
        one.size,
        one.cameras.join(" "),
        one.compactness.toFixed(3),
        one.independence.toFixed(3),
      ]),
    ]);
    return { clustering: Number(clustering), clusters: shown };
  });
}

async function reclusterAndWait(context: CommandContext): Promise<JsonObject> {
  const { flags, out, signal } = context;
  const eps = numberFlag(flags, "eps", { minimum: 0, maximum: 1 });
  return withClient(context, async (client) => {
    const memory = textFlag(flags, "memory") ?? "";
    const made = await reclusterMemory(client, { memory, eps, signal });
    out.line(
      `clustering ${made.clustering}: ${made.clusters} clusters, ${made.outliers} outliers, eps ${made.eps.toFixed(3)}`,
    );
    return { ...made };
  });
}
