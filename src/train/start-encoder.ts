import { basename } from "node:path";
import type { Model } from "#onnx/graph";
import { openEncoder } from "./encoder-file.js";
import { isEncoderName } from "./encoders.js";
import type { TrainOptions } from "./settings.js";
import type { WeightReport } from "./weights.js";

/** The encoder a run starts from. */
export interface StartEncoder {
  /** float32 [batch, 3, H, W] in, [batch, D] out. */
  readonly encoder: Model;
  /** The table's name, or the file's without its folder. */
  readonly name: string;
  readonly pretrained: boolean;
  readonly heightPx: number;
  readonly widthPx: number;
  /** For people: what was opened, what matched. */
  readonly messages: readonly string[];
}

/** Names printed of a longer list. */
const SHOWN_NAMES = 5;

/**
 * Builds or reads the encoder a run starts from.
 *
 * @throws as `openEncoder`
 */
export async function openStartEncoder(
  options: TrainOptions,
): Promise<StartEncoder> {
  const encoder = options.encoder ?? "resnet50";
  const opened = await openEncoder({
    encoder,
    seed: options.seed ?? 1,
    heightPx: options.heightPx,
    widthPx: options.widthPx,
    features: options.features,
    featureNode: options.featureNode,
    weights: options.weights,
  });
  const { model, pretrained, heightPx, widthPx, weights } = opened;
  return {
    encoder: model,
    name: isEncoderName(encoder) ? encoder : basename(encoder),
    pretrained,
    heightPx,
    widthPx,
    messages:
      weights === undefined
        ? []
        : messagesOf(weights, basename(options.weights ?? "")),
  };
}

/** What of a weights file was used, line by line. */
function messagesOf(report: WeightReport, file: string): string[] {
  const { matched, missing, reshaped, unused } = report;
  const total = matched.length + missing.length + reshaped.length;
  const lines = [
    `weights from ${file}: ${matched.length} of ${total} matched by name and shape`,
  ];
  if (missing.length > 0) lines.push(`not in the file: ${some(missing)}`);
  if (reshaped.length > 0)
    lines.push(`of another shape: ${some(reshaped.map(({ name }) => name))}`);
  if (unused.length > 0) lines.push(`in the file, not used: ${some(unused)}`);
  return lines;
}

function some(names: readonly string[]): string {
  const rest = names.length - SHOWN_NAMES;
  const shown = names.slice(0, SHOWN_NAMES).join(", ");
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}
