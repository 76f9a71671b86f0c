import {
  hnswDefaults,
  indexRanges,
  type FeatureStorage,
  type IndexKind,
  type IndexSpec,
  type IvfSpec,
} from "#index/index-kinds";

import { FieldInvalidError } from "./errors.js";
import { wholeIn, wordFrom } from "./fields.js";
import type { HnswIndex__Output } from "./generated/reid/v1/HnswIndex.js";
import type {
  IndexSpec as WireSpec,
  IndexSpec__Output,
} from "./generated/reid/v1/IndexSpec.js";
import type { IvfIndex__Output } from "./generated/reid/v1/IvfIndex.js";
import type { ProductCode__Output } from "./generated/reid/v1/ProductCode.js";

const path = "gallery.index";
const { hnsw, ivf } = indexRanges;

/**
 * Parses the index a gallery is to have, its defaults filled in.
 *
 * @returns auto: none was named
 * @throws {FieldInvalidError}
 */
export function indexFrom(index: IndexSpec__Output | null): IndexSpec | "auto" {
  if (index === null) return "auto";
  const storage = wordFrom(
    index.storage,
    `${path}.storage`,
    "FEATURE_STORAGE",
    {
      UNSPECIFIED: "f32",
      F32: "f32",
      F16: "f16",
      INT8: "int8",
    } as const,
  );
  const stored = storage === "f32" ? {} : { storage };
  if (index.flat) return { kind: "flat", ...stored };
  if (index.hnsw) return { ...hnswFrom(index.hnsw), ...stored };
  if (index.ivf) return { ...ivfFrom(index.ivf, storage), ...stored };
  if (storage !== "f32")
    throw new FieldInvalidError(
      `${path}.storage`,
      index.storage,
      "F32 where no kind is named: the kind is then chosen by the number of entries",
    );
  return "auto";
}

function hnswFrom({ m, efConstruction, efSearch }: HnswIndex__Output) {
  return {
    kind: "hnsw",
    m: wholeIn(m, `${path}.hnsw.m`, hnsw.m, hnswDefaults.m),
    efConstruction: wholeIn(
      efConstruction,
      `${path}.hnsw.ef_construction`,
      hnsw.efConstruction,
      hnswDefaults.efConstruction,
    ),
    efSearch: wholeIn(
      efSearch,
      `${path}.hnsw.ef_search`,
      hnsw.efSearch,
      hnswDefaults.efSearch,
    ),
  } as const;
}

function ivfFrom(
  { lists, probes, pq }: IvfIndex__Output,
  storage: FeatureStorage,
): IvfSpec {
  const spec: IvfSpec = {
    kind: "ivf",
    lists: wholeIn(lists, `${path}.ivf.lists`, ivf.lists, 0),
    probes: wholeIn(probes, `${path}.ivf.probes`, ivf.probes, 0),
  };
  if (spec.lists !== 0 && spec.probes > spec.lists)
    throw new FieldInvalidError(
      `${path}.ivf.probes`,
      probes,
      `at most lists, ${spec.lists}`,
    );
  if (!pq) return spec;
  if (storage !== "f32")
    throw new FieldInvalidError(
      `${path}.storage`,
      storage,
      "F32 beside a product code, which says itself how it stores features",
    );
  return { ...spec, pq: productFrom(pq) };
}

function productFrom({ segments, bits }: ProductCode__Output) {
  if (bits !== 0 && bits !== 4 && bits !== 8)
    throw new FieldInvalidError(`${path}.ivf.pq.bits`, bits, "4 or 8");
  return {
    segments: wholeIn(segments, `${path}.ivf.pq.segments`, {
      minimum: 1,
      maximum: 4096,
    }),
    bits: bits === 4 ? 4 : 8,
  } as const;
}

/**
 * Refuses a product code whose segments do not divide the gallery's dimension.
 *
 * @throws {FieldInvalidError}
 */
export function requireSegments(
  index: IndexSpec | "auto" | undefined,
  dimension: number,
): void {
  if (index === undefined || index === "auto" || index.kind !== "ivf") return;
  if (index.pq !== undefined && dimension % index.pq.segments !== 0)
    throw new FieldInvalidError(
      `${path}.ivf.pq.segments`,
      index.pq.segments,
      `a divisor of the dimension, ${dimension}`,
    );
}

const kindsToWire: {
  readonly [Kind in IndexKind]: (
    spec: Extract<IndexSpec, { kind: Kind }>,
  ) => WireSpec;
} = {
  flat: () => ({ flat: {} }),
  hnsw: ({ m, efConstruction, efSearch }) => ({
    hnsw: { m, efConstruction, efSearch },
  }),
  ivf: ({ lists, probes, pq }) => ({
    ivf: { lists, probes, ...(pq === undefined ? {} : { pq }) },
  }),
};

const storagesToWire = {
  f32: "FEATURE_STORAGE_F32",
  f16: "FEATURE_STORAGE_F16",
  int8: "FEATURE_STORAGE_INT8",
} as const satisfies Readonly<Record<FeatureStorage, string>>;

/** The index of a gallery as the wire has it. */
export function indexToWire(spec: IndexSpec): WireSpec {
  const toWire = kindsToWire[spec.kind] as (spec: IndexSpec) => WireSpec;
  return { ...toWire(spec), storage: storagesToWire[spec.storage ?? "f32"] };
}
