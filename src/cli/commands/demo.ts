import { rm } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder, writeAtomically } from "#core/files";
import { engines } from "#train/engines";
import {
  type Command,
  type CommandContext,
  type JsonObject,
  numberFlag,
  textFlag,
} from "../command.js";
import { writeDemoReport } from "../demo/demo-report.js";
import {
  jsonOf,
  percent,
  storyRows,
  summarize,
  type DemoSummary,
} from "../demo/summary.js";
import { renderDomains, trainEncoders } from "../demo/training-stage.js";
import { serveAndSearch } from "../demo/wire-stage.js";
import { secondsText } from "../progress.js";

/** `reid demo`: the whole circle on rendered crops. */
export const command: Command = {
  name: "demo",
  summary: "render, train, adapt, serve, search and keep learning, once",
  usage: "[--seed N] [--out DIR]",
  options: {
    seed: {
      type: "string",
      placeholder: "N",
      description: "of everything random",
      default: "1",
    },
    out: {
      type: "string",
      placeholder: "DIR",
      description: "what it leaves behind; emptied first",
      default: "out/demo",
    },
    "setup-ms": {
      type: "string",
      placeholder: "N",
      description: "milliseconds that set-up took before, for demo.json",
      default: "0",
    },
  },
  run,
};

async function run(context: CommandContext): Promise<JsonObject> {
  const { flags, out, clock } = context;
  const seed = numberFlag(flags, "seed", { minimum: 0, integer: true }) ?? 1;
  const setupMs = numberFlag(flags, "setup-ms", { minimum: 0 }) ?? 0;
  const folder = textFlag(flags, "out") ?? "out/demo";
  await rm(folder, { recursive: true, force: true });
  await makeFolder(folder);
  const demo = {
    command: context,
    engine: engines.onnxruntime({}),
    folder,
    seed,
  };

  const started = clock.monotonic();
  const seconds: Record<string, number> = { setup: setupMs / 1000 };
  const timed = async <Result>(name: string, work: () => Promise<Result>) => {
    const from = clock.monotonic();
    const result = await work();
    seconds[name] = (clock.monotonic() - from) / 1000;
    return result;
  };

  const domains = await timed("render", () => renderDomains(demo));
  out.line(
    `rendered ${domains.crops} crops of two domains in ${secondsText(seconds.render * 1000)}`,
  );
  const training = await timed("train", () => trainEncoders(demo, domains));
  out.line(
    `trained both encoders in ${secondsText(seconds.train * 1000)}: target mAP ` +
      `${percent(training.figures.target.baseline.mAP)} source-only, ${percent(training.figures.target.adapted.mAP)} adapted`,
  );
  const wire = await timed("wire", () =>
    serveAndSearch(demo, domains, training),
  );
  const facts = { seed, crops: domains.crops, seconds };
  const report = await timed("report", () =>
    writeDemoReport(demo, domains, training, summarize(facts, training, wire)),
  );
  seconds.total = (clock.monotonic() - started + setupMs) / 1000;
  const summary = summarize(facts, training, wire);
  await writeAtomically(
    join(folder, "demo.json"),
    `${JSON.stringify(summary, null, 2)}\n`,
  );
  tell(context, summary, report);
  return jsonOf(summary);
}

/** The story, for people. */
function tell(
  { out }: CommandContext,
  summary: DemoSummary,
  report: string,
): void {
  const { wire, online, seconds } = summary;
  out.line();
  out.table([
    ["encoder", "target mAP", "target rank-1", "source mAP"],
    ...storyRows(summary),
  ]);
  out.line();
  out.line(
    `A server answered ${wire.queries} queries on ${wire.entries} entries over gRPC: mAP ${percent(wire.mAP)}, ` +
      `${wire.difference.toExponential(1)} from the offline figure.`,
  );
  out.line(
    `Its online memory saw ${online.instances} crops and found ${online.clusters} clusters and ${online.outliers} outliers; ` +
      `in truth ${online.identities} people (ARI ${online.ari.toFixed(2)}).`,
  );
  out.line(
    `${secondsText(seconds.total * 1000)} in all, ${secondsText(seconds.setup * 1000)} of it set-up. Pictures: ${report}`,
  );
}
