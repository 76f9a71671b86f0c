/** The two rendered worlds: a bright street with many cameras, a dim hall with few. */
export type SyntheticDomain = "source" | "target";

/** What to render. */
export interface RenderOptions {
  /** Folder to make, in Market-1501 layout; must not exist, or be empty. */
  readonly out: string;
  readonly domain: SyntheticDomain;
  /** Identities of bounding_box_train. */
  readonly identities: number;
  /** Identities of query and bounding_box_test, none of them in bounding_box_train. */
  readonly testIdentities: number;
  /** Cameras 1 … this; every camera sees every identity. At most 9: the layout has one digit. */
  readonly cameras: number;
  /** Crops of a training identity over all cameras together, spread evenly. */
  readonly cropsPerIdentity: number;
  /** The same for a test identity; its first crop of each camera is the query. */
  readonly testCropsPerIdentity: number;
  readonly seed: number;
  /** 128 by default. */
  readonly heightPx?: number;
  /** 64 by default. */
  readonly widthPx?: number;
  /** Worker threads; as many as there are cores by default. The bytes do not depend on it. */
  readonly threads?: number;
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** What was rendered. */
export interface RenderSummary {
  readonly folder: string;
  /** Crops in bounding_box_train. */
  readonly train: number;
  readonly query: number;
  /** Crops in bounding_box_test. */
  readonly gallery: number;
}

/** What renderCrop must know about a run, the same for every crop. */
export interface RenderWorld {
  readonly domain: SyntheticDomain;
  readonly seed: number;
  readonly cameras: number;
  readonly heightPx: number;
  readonly widthPx: number;
}
