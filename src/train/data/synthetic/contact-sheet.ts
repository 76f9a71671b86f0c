import { readFile } from "node:fs/promises";
import { createCanvas, loadImage } from "#core/canvas";
import { writeAtomically } from "#core/files";

/** How a sheet is laid out. */
export interface ContactSheetOptions {
  /** Crops of a row; a row usually shows one identity. */
  readonly columns: number;
  /** 128 by default. */
  readonly cropHeightPx?: number;
  /** 64 by default. */
  readonly cropWidthPx?: number;
}

/**
 * Draws crops side by side.
 *
 * @param paths  row by row
 * @returns      the bytes of a PNG file
 */
export async function contactSheet(
  paths: readonly string[],
  { columns, cropHeightPx = 128, cropWidthPx = 64 }: ContactSheetOptions,
): Promise<Uint8Array> {
  const gapPx = 3;
  const rows = Math.ceil(paths.length / columns);
  const canvas = createCanvas(
    columns * (cropWidthPx + gapPx) + gapPx,
    Math.max(1, rows) * (cropHeightPx + gapPx) + gapPx,
  );
  const context = canvas.getContext("2d");
  context.fillStyle = "#20242a";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const [i, path] of paths.entries()) {
    const picture = await loadImage(await readFile(path));
    const x = gapPx + (i % columns) * (cropWidthPx + gapPx);
    const y = gapPx + Math.floor(i / columns) * (cropHeightPx + gapPx);
    context.drawImage(picture, x, y, cropWidthPx, cropHeightPx);
  }
  return canvas.encode("png");
}

/** Writes a contact sheet as a PNG file. */
export async function writeContactSheet(
  file: string,
  paths: readonly string[],
  options: ContactSheetOptions,
): Promise<void> {
  await writeAtomically(file, await contactSheet(paths, options));
}
