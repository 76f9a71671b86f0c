import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { encodePng } from "#core/image";
import { randomStream } from "#core/random";

/** A small data set: every identity its own colours in stripes, every camera its own tint. */
export interface StripedDomain {
  readonly folder: string;
  readonly seed: number;
  readonly identities: number;
  readonly cameras: number;
  /** Crops of each identity and camera. */
  readonly crops: number;
  /** Default: train alone; else query and gallery too, with identities of their own. */
  readonly withTest?: boolean;
}

/** Height and width of the crops. */
export const STRIPED_SIZE = { heightPx: 32, widthPx: 16 } as const;

const STRIPES = 4;

/** Writes a data set in Market-1501 layout, a few milliseconds a crop. */
export async function writeStripedDomain(
  domain: StripedDomain,
): Promise<string> {
  const { folder, identities, withTest = false } = domain;
  await writeSplit(domain, "bounding_box_train", 1, identities);
  if (withTest) {
    await writeSplit(domain, "query", 1001, identities);
    await writeSplit(domain, "bounding_box_test", 1001, identities);
  }
  return folder;
}

async function writeSplit(
  domain: StripedDomain,
  name: string,
  firstIdentity: number,
  identities: number,
): Promise<void> {
  const { folder, seed, cameras, crops } = domain;
  const path = join(folder, name);
  await mkdir(path, { recursive: true });
  for (
    let identity = firstIdentity;
    identity < firstIdentity + identities;
    identity++
  )
    for (let camera = 1; camera <= cameras; camera++)
      for (let crop = 0; crop < crops; crop++) {
        const file = `${String(identity).padStart(4, "0")}_c${camera}s1_${String(crop).padStart(6, "0")}_00.png`;
        const pixels = drawCrop(seed, { name, identity, camera, crop });
        await writeFile(
          join(path, file),
          await encodePng({ data: pixels, ...STRIPED_SIZE }),
        );
      }
}

interface Shot {
  readonly name: string;
  readonly identity: number;
  readonly camera: number;
  readonly crop: number;
}

function drawCrop(seed: number, shot: Shot): Uint8Array {
  const { heightPx, widthPx } = STRIPED_SIZE;
  const colours = randomStream(seed, "stripes", shot.identity);
  const stripes = Array.from({ length: STRIPES * 3 }, () =>
    colours.between(40, 215),
  );
  const tint = randomStream(seed, "tint", shot.camera);
  const tints = [0, 1, 2].map(() => tint.between(-25, 25));
  const noise = randomStream(
    seed,
    "noise",
    shot.name,
    shot.identity,
    shot.camera,
    shot.crop,
  );
  const pixels = new Uint8Array(heightPx * widthPx * 3);
  for (let y = 0; y < heightPx; y++) {
    const stripe = Math.floor((y * STRIPES) / heightPx);
    for (let x = 0; x < widthPx; x++)
      for (let c = 0; c < 3; c++)
        pixels[(y * widthPx + x) * 3 + c] = Math.max(
          0,
          Math.min(
            255,
            stripes[stripe * 3 + c] + tints[c] + 12 * noise.normal(),
          ),
        );
  }
  return pixels;
}
