import { noiseCrop, unitFeature } from "./wire-server.js";

/** Something that no call takes, and how it is refused. */
export interface BadItem {
  readonly what: string;
  readonly reason: string;
  /** Path below the crop or feature; empty: itself. */
  readonly field: string;
}

/** A crop that is refused, by whatever call it comes. */
export interface BadCrop extends BadItem {
  readonly crop: object;
}

/** A feature that a gallery on `door/1` refuses. */
export interface BadFeature extends BadItem {
  readonly feature: object;
}

const { raw } = noiseCrop(1);

/** One crop for each way of being broken. */
export const badCrops: readonly BadCrop[] = [
  { what: "no pixels", crop: {}, reason: "CROP_EMPTY", field: "encoded" },
  {
    what: "zero bytes",
    crop: { encoded: Buffer.alloc(0) },
    reason: "CROP_EMPTY",
    field: "encoded",
  },
  {
    what: "text",
    crop: { encoded: Buffer.from("hello, I am text") },
    reason: "CROP_UNDECODABLE",
    field: "encoded",
  },
  {
    what: "a file of more than 4 MiB",
    crop: { encoded: Buffer.alloc(4 * 1024 * 1024 + 1) },
    reason: "CROP_TOO_LARGE",
    field: "encoded",
  },
  {
    what: "a side over 4096 px",
    crop: { raw: { ...raw, widthPx: 5000 } },
    reason: "CROP_TOO_LARGE",
    field: "raw.width_px",
  },
  {
    what: "a side under 8 px",
    crop: { raw: { ...raw, heightPx: 7, data: Buffer.alloc(210) } },
    reason: "CROP_TOO_SMALL",
    field: "raw.height_px",
  },
  {
    what: "too few raw bytes",
    crop: { raw: { ...raw, data: Buffer.alloc(599) } },
    reason: "PIXELS_SIZE",
    field: "raw.data",
  },
  {
    what: "a stride shorter than a row",
    crop: { raw: { ...raw, strideBytes: 29 } },
    reason: "PIXELS_SIZE",
    field: "raw.stride_bytes",
  },
  {
    what: "no pixel format",
    crop: { raw: { ...raw, format: 0 } },
    reason: "FIELD_INVALID",
    field: "raw.format",
  },
  {
    what: "a crop id of 129 bytes",
    crop: { ...noiseCrop(1), cropId: "x".repeat(129) },
    reason: "FIELD_INVALID",
    field: "crop_id",
  },
];

const { f32le, model } = unitFeature(1);

/** One feature for each way of being broken. */
export const badFeatures: readonly BadFeature[] = [
  {
    what: "no model",
    feature: { f32le },
    reason: "FEATURE_FORM",
    field: "",
  },
  { what: "no numbers", feature: { model }, reason: "FEATURE_FORM", field: "" },
  {
    what: "two encodings",
    feature: { f32le, model, values: [1] },
    reason: "FEATURE_FORM",
    field: "",
  },
  {
    what: "47 bytes",
    feature: { f32le: f32le.subarray(0, 47), model },
    reason: "FEATURE_FORM",
    field: "",
  },
  {
    what: "eleven numbers of twelve",
    feature: { f32le: f32le.subarray(4), model },
    reason: "FEATURE_DIMENSION",
    field: "",
  },
  {
    what: "only zeros",
    feature: { f32le: Buffer.alloc(48), model },
    reason: "FEATURE_NOT_UNIT",
    field: "",
  },
  {
    what: "NaN",
    feature: { f32le: Buffer.alloc(48, 255), model },
    reason: "FEATURE_NOT_FINITE",
    field: "",
  },
  {
    what: "another version",
    feature: { f32le, model: { name: "door", version: 2 } },
    reason: "MODEL_MISMATCH",
    field: "model",
  },
];

/** Every broken crop and feature, as the input of an item that takes either, with its path below the item. */
export const badInputs: readonly (BadItem & { readonly input: object })[] = [
  ...badCrops.map(({ crop, ...item }) => ({
    ...item,
    input: { crop },
    field: `crop.${item.field}`,
  })),
  ...badFeatures.map(({ feature, ...item }) => ({
    ...item,
    input: { feature },
    field: item.field === "" ? "feature" : `feature.${item.field}`,
  })),
];
