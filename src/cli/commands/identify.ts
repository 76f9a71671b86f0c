import { readFile } from "node:fs/promises";
import { ReidError } from "#core/errors";
import type { ResponseOf } from "#serve/protocol";
import {
  choiceFlag,
  FailedRun,
  numberFlag,
  requiredFlag,
  textFlag,
  type Command,
  type CommandContext,
  type Flags,
  type JsonObject,
  type JsonValue,
} from "../command.js";
import {
  connectionOptions,
  cropFiles,
  CropsRefusedError,
  withClient,
} from "../connection.js";

type Answer = ResponseOf<"SearchService", "Identify">;

const policies = {
  never: "ENROLL_POLICY_NEVER",
  new: "ENROLL_POLICY_NEW",
  "new-and-known": "ENROLL_POLICY_NEW_AND_KNOWN",
} as const;

/** Codes that say that a crop is no good, and nothing of the others. */
const CROP_CODE = /^(CROP_|PIXELS_)/;

/** `reid identify`: who is this? */
export const command: Command = {
  name: "identify",
  summary: "say who is on each crop: known, ambiguous or new",
  usage: "--gallery NAME FILES… [--enroll POLICY] [flags]",
  options: {
    ...connectionOptions,
    gallery: {
      type: "string",
      placeholder: "NAME",
      description: "the gallery",
    },
    enroll: {
      type: "string",
      placeholder: "POLICY",
      description: "which crops to enrol: never, new or new-and-known",
      default: "never",
    },
    "min-similarity": {
      type: "string",
      placeholder: "X",
      description: "of a known identity; default the server's",
    },
    "min-margin": {
      type: "string",
      placeholder: "X",
      description: "lead of a known identity over the next; default 0.05",
    },
    candidates: {
      type: "string",
      placeholder: "N",
      description: "identities listed; default 5",
    },
    camera: {
      type: "string",
      placeholder: "ID",
      description: "of all crops; default unknown",
    },
  },
  takesPaths: true,
  run,
};

async function run(context: CommandContext): Promise<JsonObject | FailedRun> {
  const { flags, positionals, out, signal } = context;
  const gallery = requiredFlag(flags, "gallery");
  const settings = settingsFrom(flags);
  const files = await cropFiles(positionals);
  const cameraId = textFlag(flags, "camera") ?? "";
  return withClient(context, async (client) => {
    const results: JsonValue[] = [];
    const reasons: string[] = [];
    for (const file of files) {
      const encoded = await readFile(file);
      try {
        const answer = await client.SearchService.Identify(
          { gallery, crop: { encoded, cameraId }, ...settings },
          { signal },
        );
        const shown = resultFrom(answer);
        out.line(`${file}: ${lineOf(answer)}`);
        results.push({ file, ...shown });
      } catch (error) {
        if (!(error instanceof ReidError) || !CROP_CODE.test(error.code))
          throw error;
        out.line(`${file}: ${error.message}`);
        reasons.push(error.code);
        results.push({ file, reason: error.code, message: error.message });
      }
    }
    const result = { gallery, results };
    return reasons.length === files.length
      ? new FailedRun(new CropsRefusedError("identified", reasons), result)
      : result;
  });
}

function settingsFrom(flags: Flags) {
  const minSimilarity = numberFlag(flags, "min-similarity", {
    minimum: -1,
    maximum: 1,
  });
  const minMargin = numberFlag(flags, "min-margin", { minimum: 0, maximum: 2 });
  const candidates = numberFlag(flags, "candidates", {
    minimum: 1,
    maximum: 100,
    integer: true,
  });
  const policy = choiceFlag(flags, "enroll", ["never", "new", "new-and-known"]);
  return {
    enroll: policies[policy ?? "never"],
    candidates: candidates ?? 0,
    ...(minSimilarity === undefined ? {} : { minSimilarity }),
    ...(minMargin === undefined ? {} : { minMargin }),
  };
}

function resultFrom(answer: Answer) {
  const { identity, confidence, candidates, entryId, sequence } = answer;
  return {
    decision: decisionOf(answer),
    identity,
    confidence,
    candidates: candidates.map((candidate) => ({ ...candidate })),
    ...(entryId === "" ? {} : { entryId }),
    sequence,
  };
}

/** Such as `known 42, confidence 0.93; 42 0.81, 17 0.60; enrolled as 01J…`. */
function lineOf(answer: Answer): string {
  const { identity, confidence, candidates, entryId } = answer;
  const near = candidates.map(
    (one) => `${one.identity} ${one.similarity.toFixed(4)}`,
  );
  return [
    `${decisionOf(answer)}${identity === "" ? "" : ` ${identity}`}, ` +
      `confidence ${confidence.toFixed(4)}`,
    ...(near.length === 0 ? [] : [near.join(", ")]),
    ...(entryId === "" ? [] : [`enrolled as ${entryId}`]),
  ].join("; ");
}

function decisionOf({ decision }: Answer): string {
  return decision.replace("DECISION_", "").toLowerCase();
}
