import type { Rgb } from "./colour.js";
import type { SyntheticDomain } from "./render-options.js";

/** An interval a nuisance is drawn from. */
export type Range = readonly [low: number, high: number];

/** Everything in which the two worlds differ. */
export interface DomainLook {
  readonly uppers: readonly Rgb[];
  readonly lowers: readonly Rgb[];
  /** Accents: logos, stripes, bags. */
  readonly accents: readonly Rgb[];
  readonly scene: "street" | "hall";
  /** Exponent of the camera's channel gains: exp(1.4 · tint · cos(hue − channel)). */
  readonly tint: number;
  /** Gains per channel, exponent and offset that the whole domain shares. */
  readonly cast: Rgb;
  readonly gamma: number;
  readonly lift: number;
  /** Deviation in pixels of a crop 64 high; larger crops blur in proportion. */
  readonly blurPx: Range;
  /** Deviation in grey levels. */
  readonly noise: Range;
  readonly jpegQuality: Range;
  readonly occlusion: number;
  /** Downward tilt of the cameras in radians. */
  readonly elevation: Range;
  /** Deviation in radians of the facing angle within a camera. */
  readonly yawSpread: Range;
  /** Darkness of the cast shadow, 0 … 1. */
  readonly shadow: number;
  /** Difference between the lit and the dark side of a body, 0 … 1. */
  readonly contrast: number;
  /** Spread of exposure between crops, as a share. */
  readonly exposure: number;
}

/** The looks by domain. */
export const domainLooks: Readonly<Record<SyntheticDomain, DomainLook>> = {
  source: {
    uppers: [
      [206, 44, 48],
      [232, 120, 32],
      [240, 200, 52],
      [54, 150, 70],
      [34, 96, 190],
      [70, 170, 220],
      [122, 66, 160],
      [226, 110, 160],
      [240, 240, 238],
      [150, 152, 156],
      [40, 42, 48],
      [120, 78, 50],
      [24, 58, 92],
      [178, 200, 90],
    ],
    lowers: [
      [36, 52, 92],
      [92, 122, 168],
      [38, 38, 42],
      [196, 176, 136],
      [122, 122, 124],
      [226, 222, 212],
      [92, 64, 44],
      [70, 84, 56],
    ],
    accents: [
      [248, 248, 246],
      [28, 28, 32],
      [214, 40, 44],
      [246, 206, 48],
      [38, 104, 200],
      [64, 168, 84],
      [236, 128, 36],
    ],
    scene: "street",
    tint: 0.2,
    cast: [1, 1, 1],
    gamma: 1,
    lift: 0,
    blurPx: [0, 0.4],
    noise: [1, 4],
    jpegQuality: [75, 95],
    occlusion: 0.06,
    elevation: [0.05, 0.4],
    yawSpread: [0.6, 1.2],
    shadow: 0.45,
    contrast: 0.5,
    exposure: 0.15,
  },
  target: {
    uppers: [
      [142, 58, 60],
      [176, 112, 74],
      [188, 166, 96],
      [82, 116, 84],
      [62, 88, 136],
      [118, 150, 172],
      [104, 80, 124],
      [182, 134, 148],
      [206, 204, 198],
      [134, 134, 136],
      [50, 50, 54],
      [98, 76, 60],
    ],
    lowers: [
      [48, 56, 80],
      [104, 118, 142],
      [46, 46, 48],
      [158, 144, 120],
      [108, 106, 106],
      [82, 70, 60],
    ],
    accents: [
      [214, 212, 206],
      [44, 44, 48],
      [150, 62, 62],
      [190, 168, 96],
      [70, 98, 148],
    ],
    scene: "hall",
    tint: 0.09,
    cast: [0.9, 0.97, 1.04],
    gamma: 1.05,
    lift: 5,
    blurPx: [0.1, 0.7],
    noise: [2, 12],
    jpegQuality: [60, 85],
    occlusion: 0.12,
    elevation: [0.1, 0.6],
    yawSpread: [0.6, 1.2],
    shadow: 0.28,
    contrast: 0.36,
    exposure: 0.08,
  },
};
