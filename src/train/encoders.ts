import type { Model } from "#onnx/graph";
import type { BuildOptions } from "./encoders/layers.js";
import {
  buildOsNet,
  OSNET_DIMENSION,
  type OsNetPlan,
} from "./encoders/osnet.js";
import {
  buildResNet,
  resNetDimension,
  type ResNetPlan,
} from "./encoders/resnet.js";
import {
  buildResNetTiny,
  RESNET_TINY_DIMENSION,
} from "./encoders/resnet-tiny.js";

export type { BuildOptions } from "./encoders/layers.js";

/** Encoders that are built in code. */
export type EncoderName =
  | "resnet18"
  | "resnet34"
  | "resnet50"
  | "resnet101"
  | "resnet152"
  | "resnet50_ibn_a"
  | "resnet101_ibn_a"
  | "osnet_x1_0"
  | "osnet_x0_5"
  | "osnet_x0_25"
  | "resnet_tiny";

/** One built-in encoder. */
export interface EncoderEntry {
  /** Default crop size. */
  readonly heightPx: number;
  readonly widthPx: number;
  /** D without a linear layer. */
  readonly dimension: number;
  /**
   * The encoder with fresh weights: float32 `image` [batch, 3, H, W], normalized, to `feature` [batch, D], not yet L2.
   * Batch norms are in inference form.
   */
  build(options: BuildOptions): Model;
}

const person = { heightPx: 256, widthPx: 128 };

const resNet = (plan: ResNetPlan): EncoderEntry => ({
  ...person,
  dimension: resNetDimension(plan),
  build: (options) => buildResNet(plan, options),
});

const osNet = (plan: OsNetPlan): EncoderEntry => ({
  ...person,
  dimension: OSNET_DIMENSION,
  build: (options) => buildOsNet(plan, options),
});

const bottleneck = { block: "bottleneck", normalization: "batch" } as const;
const ibn = { block: "bottleneck", normalization: "ibn-a" } as const;
const basic = { block: "basic", normalization: "batch" } as const;

/** Every built-in encoder by name. Block counts: He et al. 2016, table 1; OSNet widths: torchreid's model zoo. */
export const encoders: Readonly<Record<EncoderName, EncoderEntry>> = {
  resnet18: resNet({ name: "resnet18", blocks: [2, 2, 2, 2], ...basic }),
  resnet34: resNet({ name: "resnet34", blocks: [3, 4, 6, 3], ...basic }),
  resnet50: resNet({ name: "resnet50", blocks: [3, 4, 6, 3], ...bottleneck }),
  resnet101: resNet({
    name: "resnet101",
    blocks: [3, 4, 23, 3],
    ...bottleneck,
  }),
  resnet152: resNet({
    name: "resnet152",
    blocks: [3, 8, 36, 3],
    ...bottleneck,
  }),
  resnet50_ibn_a: resNet({
    name: "resnet50_ibn_a",
    blocks: [3, 4, 6, 3],
    ...ibn,
  }),
  resnet101_ibn_a: resNet({
    name: "resnet101_ibn_a",
    blocks: [3, 4, 23, 3],
    ...ibn,
  }),
  osnet_x1_0: osNet({ name: "osnet_x1_0", channels: [64, 256, 384, 512] }),
  osnet_x0_5: osNet({ name: "osnet_x0_5", channels: [32, 128, 192, 256] }),
  osnet_x0_25: osNet({ name: "osnet_x0_25", channels: [16, 64, 96, 128] }),
  resnet_tiny: {
    heightPx: 64,
    widthPx: 32,
    dimension: RESNET_TINY_DIMENSION,
    build: buildResNetTiny,
  },
};

/** Whether a word names a built-in encoder. */
export function isEncoderName(name: string): name is EncoderName {
  return Object.hasOwn(encoders, name);
}
