import {
  createCanvas,
  ImageData,
  loadImage,
  type Canvas,
  type Image,
  type SKRSContext2D,
} from "@napi-rs/canvas";

/** The one door to @napi-rs/canvas: drawing surfaces, their 2-D context, and decoded pictures. */
export { createCanvas, ImageData, loadImage };
export type { Canvas, Image, SKRSContext2D as CanvasContext };
