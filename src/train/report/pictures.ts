import { readFile } from "node:fs/promises";
import { createCanvas, loadImage } from "#core/canvas";
import {
  contactSheet,
  type ContactSheetOptions,
} from "../data/synthetic/contact-sheet.js";
import { escapeHtml } from "./html.js";

const cropWidthPx = 56;
const cropHeightPx = 112;
const pictureScale = 1.5;
const jpegQuality = 82;

/** A crop small enough for a page, as a data URI. */
async function cropUri(path: string): Promise<string> {
  const picture = await loadImage(await readFile(path));
  const canvas = createCanvas(
    cropWidthPx * pictureScale,
    cropHeightPx * pictureScale,
  );
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  const bytes = await canvas.encode("jpeg", jpegQuality);
  return `data:image/jpeg;base64,${bytes.toString("base64")}`;
}

/** One hit of a query, nearest first. */
export interface RetrievalHit {
  /** The crop's file. */
  readonly path: string;
  /** Of the query's identity. */
  readonly isMatch: boolean;
  /** [−1, 1], larger is closer. */
  readonly similarity: number;
}

/** What one encoder found for a query. */
export interface RankedList {
  /** Which encoder, such as `before`. */
  readonly name: string;
  readonly hits: readonly RetrievalHit[];
}

/** A query and what one or more encoders found for it. */
export interface RetrievalExample {
  /** The query crop's file. */
  readonly query: string;
  readonly lists: readonly RankedList[];
}

/** Draws queries with their nearest hits, one strip an encoder: matches framed green, others red. */
export async function retrievalStrips(
  examples: readonly RetrievalExample[],
): Promise<string> {
  const pictures = new Map<string, string>();
  const uri = async (path: string) => {
    const known = pictures.get(path) ?? (await cropUri(path));
    pictures.set(path, known);
    return known;
  };
  const blocks: string[] = [];
  for (const { query, lists } of examples) {
    const strips: string[] = [];
    for (const { name, hits } of lists) {
      const cells = [
        `<div class="crop query"><img alt="query" src="${await uri(query)}"><span>query</span></div>`,
      ];
      for (const hit of hits)
        cells.push(
          `<div class="crop ${hit.isMatch ? "match" : "miss"}"><img alt="${hit.isMatch ? "match" : "other identity"}" src="${await uri(hit.path)}"><span>${hit.similarity.toFixed(2)}</span></div>`,
        );
      strips.push(
        `<div class="strip"><span class="tag">${escapeHtml(name)}</span>${cells.join("")}</div>`,
      );
    }
    blocks.push(`<div class="pair">${strips.join("")}</div>`);
  }
  return `<div class="strips">${blocks.join("")}</div>`;
}

/** Draws crops side by side as one inline picture. */
export async function contactSheetFigure(
  paths: readonly string[],
  caption: string,
  options: ContactSheetOptions,
): Promise<string> {
  const png = await contactSheet(paths, options);
  const picture = await loadImage(Buffer.from(png));
  const canvas = createCanvas(picture.width, picture.height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const jpeg = await canvas.encode("jpeg", jpegQuality);
  return `<figure class="sheet"><img alt="${escapeHtml(caption)}" src="data:image/jpeg;base64,${jpeg.toString("base64")}"><figcaption>${escapeHtml(caption)}</figcaption></figure>`;
}
