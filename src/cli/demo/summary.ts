import type { JsonObject } from "../command.js";
import type { DemoTraining } from "./training-stage.js";
import type { DemoWire, OnlineFigures } from "./wire-stage.js";

/** mAP and rank-1, [0, 1]. */
type Retrieval = { readonly mAP: number; readonly rank1: number };

/** Every figure of a demonstration: what demo.json holds. */
export interface DemoSummary {
  readonly seed: number;
  readonly crops: number;
  readonly seconds: Readonly<Record<string, number>>;
  readonly target: Readonly<
    Record<"baseline" | "baselineTargetStatistics" | "adapted", Retrieval>
  >;
  readonly source: Readonly<Record<"baseline" | "adapted", Retrieval>>;
  readonly wire: {
    readonly mAP: number;
    readonly rank1: number;
    readonly queries: number;
    readonly entries: number;
    /** |mAP over gRPC − mAP by `reid eval`|. */
    readonly difference: number;
  };
  readonly online: OnlineFigures;
}

/** Puts the figures of all stages together. */
export function summarize(
  facts: {
    readonly seed: number;
    readonly crops: number;
    readonly seconds: Readonly<Record<string, number>>;
  },
  { figures }: DemoTraining,
  { retrieval, enrolled, online }: DemoWire,
): DemoSummary {
  const short = ({ mAP, cmc }: (typeof figures.target)["adapted"]) => ({
    mAP,
    rank1: cmc[0],
  });
  return {
    ...facts,
    target: {
      baseline: short(figures.target.baseline),
      baselineTargetStatistics: short(figures.target.baselineTargetStatistics),
      adapted: short(figures.target.adapted),
    },
    source: {
      baseline: short(figures.source.baseline),
      adapted: short(figures.source.adapted),
    },
    wire: {
      mAP: retrieval.mAP,
      rank1: retrieval.cmc["1"],
      queries: retrieval.queries,
      entries: enrolled,
      difference: Math.abs(retrieval.mAP - figures.target.adapted.mAP),
    },
    online,
  };
}

/** A share of 1 for people. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** The rows of the story's table: encoder, target mAP, target rank-1, source mAP. */
export function storyRows({ target, source }: DemoSummary): string[][] {
  return [
    [
      "source-only",
      percent(target.baseline.mAP),
      percent(target.baseline.rank1),
      percent(source.baseline.mAP),
    ],
    [
      "source-only, target statistics",
      percent(target.baselineTargetStatistics.mAP),
      percent(target.baselineTargetStatistics.rank1),
      "–",
    ],
    [
      "adapted (SpCL)",
      percent(target.adapted.mAP),
      percent(target.adapted.rank1),
      percent(source.adapted.mAP),
    ],
  ];
}

/** The summary as `--json` prints it. */
export function jsonOf(summary: DemoSummary): JsonObject {
  return { ...summary, online: { ...summary.online } };
}
