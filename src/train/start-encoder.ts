import type { Model } from "#onnx/graph";
import { openEncoder, type NamedEncoder } from "./encoder-file.js";
import type { TrainOptions } from "./settings.js";

/** The encoder a run starts from. */
export interface StartEncoder {
  /** float32 [batch, 3, H, W] in, [batch, D] out. */
  readonly encoder: Model;
  /** The table's name, the file's without its folder, or a bundle's NAME/VERSION. */
  readonly name: string;
  readonly pretrained: boolean;
  readonly heightPx: number;
  readonly widthPx: number;
  /** For people: what was opened, what matched. */
  readonly messages: readonly string[];
}

/**
 * Builds or reads the encoder a run starts from, `resnet50` where none is named.
 *
 * @throws as `openEncoder`
 */
export async function openStartEncoder(
  options: TrainOptions,
): Promise<StartEncoder> {
  const { encoder = "resnet50", seed = 1 } = options;
  const { heightPx, widthPx, features, featureNode, weights } = options;
  const opened = await openEncoder({
    encoder,
    heightPx,
    widthPx,
    seed,
    features,
    featureNode,
    weights,
  });
  return {
    encoder: opened.model,
    name: opened.name,
    pretrained: opened.pretrained,
    heightPx: opened.heightPx,
    widthPx: opened.widthPx,
    messages: messagesOf(opened),
  };
}

function messagesOf(opened: NamedEncoder): readonly string[] {
  const { name, heightPx, widthPx, dimension, pretrained, weights } = opened;
  const start = pretrained ? "trained weights" : "random weights";
  const lines = [
    `encoder ${name}: crops of ${heightPx} × ${widthPx} px, ${dimension} numbers a feature, ${start}`,
  ];
  if (weights === undefined) return lines;
  const { matched, missing, reshaped, unused } = weights;
  const list = (names: readonly string[]): string =>
    names.length === 0
      ? ""
      : ` (${names.slice(0, 5).join(", ")}${names.length > 5 ? ", …" : ""})`;
  lines.push(
    `weights: ${matched.length} matched, ${missing.length} missing${list(missing)}, ` +
      `${reshaped.length} of another shape${list(reshaped.map((it) => it.name))}, ${unused.length} unused`,
  );
  return lines;
}
