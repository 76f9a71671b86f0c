import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeBundle } from "#core/manifest";
import { readModel, writeModel } from "#onnx/model";
import { serveableEncoder } from "#train/export";
import { realFolder, realMissing } from "./golden.js";

const encoderFile = "encoder/osnet_x0_25_msmt17.onnx";

/** Vehicles that OSNet is judged on, in Market-1501 layout. */
export const vehicles = join(realFolder, "vehicles");

/** Why tests of OSNet on the vehicles are skipped; false: they run. */
export const osnetMissing =
  realMissing(encoderFile) || realMissing("vehicles/query");

/** OSNet-x0.25 as a bundle `osnet` in a models folder, 512 numbers; crops of 256 × 128 where nothing else is said. */
export async function writeOsnetBundle(
  models: string,
  size = { heightPx: 256, widthPx: 128 },
): ReturnType<typeof writeBundle> {
  const encoder = readModel(await readFile(join(realFolder, encoderFile)));
  const bundle = serveableEncoder(encoder, {
    ...size,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    scale: 1 / 255,
  });
  return writeBundle(models, "osnet", writeModel(bundle), {
    ...size,
    dimension: 512,
  });
}
