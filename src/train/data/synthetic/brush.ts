import type { CanvasContext } from "#core/canvas";
import { css, scaled, type Rgb } from "./colour.js";
import type { Point } from "./pose.js";

/** Draws rounded, shaded shapes under one light. */
export interface Brush {
  readonly context: CanvasContext;
  /** Where the light comes from, −1 left … 1 right. */
  readonly light: number;
  /** Difference between the lit and the dark side, 0 … 1. */
  readonly contrast: number;
}

/** A paint that is lighter on the lit side of a round thing between two x. */
export function roundPaint(
  { context, light, contrast }: Brush,
  colour: Rgb,
  fromX: number,
  toX: number,
) {
  const paint = context.createLinearGradient(fromX, 0, toX, 0);
  const lit = css(scaled(colour, 1 + 0.3 * contrast));
  const dark = css(scaled(colour, 1 - 0.75 * contrast));
  paint.addColorStop(0, light < 0 ? lit : dark);
  paint.addColorStop(light < 0 ? 0.4 : 0.6, css(colour));
  paint.addColorStop(1, light < 0 ? dark : lit);
  return paint;
}

/** A limb's segment: a tapered capsule between two points, radii in pixels. */
export function drawSegment(
  brush: Brush,
  colour: Rgb,
  [from, fromPx]: readonly [Point, number],
  [to, toPx]: readonly [Point, number],
): void {
  const { context } = brush;
  const angle = Math.atan2(to.y - from.y, to.x - from.x);
  const middle = (from.x + to.x) / 2;
  const reach =
    Math.abs(Math.sin(angle)) * Math.max(fromPx, toPx) +
    Math.abs(to.x - from.x) / 2;
  // What is farther from the camera lies in the body's own shade.
  const shade = Math.min(1.06, 1 + (from.depth + to.depth) * 0.9);
  context.fillStyle = roundPaint(
    brush,
    scaled(colour, Math.max(0.72, shade)),
    middle - reach,
    middle + reach,
  );
  context.beginPath();
  context.arc(from.x, from.y, fromPx, angle + Math.PI / 2, angle - Math.PI / 2);
  context.arc(to.x, to.y, toPx, angle - Math.PI / 2, angle + Math.PI / 2);
  context.closePath();
  context.fill();
}

/** A filled ellipse. */
export function drawEllipse(
  context: CanvasContext,
  { x, y }: { readonly x: number; readonly y: number },
  radiusX: number,
  radiusY: number,
): void {
  context.beginPath();
  context.ellipse(
    x,
    y,
    Math.max(0.1, radiusX),
    Math.max(0.1, radiusY),
    0,
    0,
    7,
  );
  context.fill();
}
