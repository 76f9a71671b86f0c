import type { RenderOptions } from "./render-options.js";

/** One crop to render. */
export interface PlannedCrop {
  /** Path below the data set's folder, such as `query/0061_c3s1_000007_00.jpg`. */
  readonly path: string;
  /** From 1. */
  readonly identity: number;
  /** From 1. */
  readonly cameraId: number;
  /** Number of this crop among those of its identity and camera, from 0. */
  readonly shot: number;
}

/**
 * Lists every crop of a data set: training identities first, then test identities with the numbers after them.
 *
 * The first crop of each test identity and camera is a query, the others are gallery.
 */
export function planCrops(
  options: Pick<
    RenderOptions,
    | "identities"
    | "testIdentities"
    | "cameras"
    | "cropsPerIdentity"
    | "testCropsPerIdentity"
  >,
): PlannedCrop[] {
  const { identities, testIdentities, cameras } = options;
  const crops: PlannedCrop[] = [];
  let frame = 0;
  for (let identity = 1; identity <= identities + testIdentities; identity++) {
    const isTraining = identity <= identities;
    const count = isTraining
      ? options.cropsPerIdentity
      : options.testCropsPerIdentity;
    for (let i = 0; i < count; i++) {
      // A camera offset per identity, so that a count that is no multiple of the cameras favours none.
      const cameraId = ((i + identity) % cameras) + 1;
      const shot = Math.floor(i / cameras);
      const folder = isTraining
        ? "bounding_box_train"
        : shot === 0
          ? "query"
          : "bounding_box_test";
      const person = String(identity).padStart(4, "0");
      const number = String(++frame).padStart(6, "0");
      crops.push({
        path: `${folder}/${person}_c${cameraId}s1_${number}_00.jpg`,
        identity,
        cameraId,
        shot,
      });
    }
  }
  return crops;
}
