import type { CanvasContext } from "#core/canvas";
import type { RandomStream } from "#core/random";
import { css, scaled, type Rgb } from "./colour.js";

/** What may stand before a figure. */
type Occluder = (
  context: CanvasContext,
  random: RandomStream,
  widthPx: number,
  heightPx: number,
) => void;

const occluders: readonly Occluder[] = [
  // A lamp post.
  (context, random, widthPx, heightPx) => {
    const wide = widthPx * random.between(0.08, 0.16);
    const x = random.between(0, widthPx - wide);
    const paint = context.createLinearGradient(x, 0, x + wide, 0);
    paint.addColorStop(0, css([70, 72, 76]));
    paint.addColorStop(0.4, css([150, 152, 156]));
    paint.addColorStop(1, css([52, 54, 58]));
    context.fillStyle = paint;
    context.fillRect(x, 0, wide, heightPx);
  },
  // A hedge or flower box over the feet.
  (context, random, widthPx, heightPx) => {
    const top = heightPx * random.between(0.68, 0.85);
    for (let i = 0; i < 30; i++) {
      context.fillStyle = css(scaled([66, 100, 60], random.between(0.6, 1.4)));
      context.beginPath();
      context.arc(
        random.between(0, widthPx),
        random.between(top, heightPx),
        widthPx * 0.1,
        0,
        7,
      );
      context.fill();
    }
  },
  // A suitcase, bin or box at one side.
  (context, random, widthPx, heightPx) => {
    const wide = widthPx * random.between(0.25, 0.45);
    const high = heightPx * random.between(0.2, 0.42);
    const x = random.uniform() < 0.5 ? -wide * 0.2 : widthPx - wide * 0.8;
    const colour: Rgb = [
      random.between(40, 170),
      random.between(40, 150),
      random.between(40, 160),
    ];
    const paint = context.createLinearGradient(x, 0, x + wide, 0);
    paint.addColorStop(0, css(scaled(colour, 1.15)));
    paint.addColorStop(1, css(scaled(colour, 0.6)));
    context.fillStyle = paint;
    context.beginPath();
    context.roundRect(x, heightPx - high, wide, high, wide * 0.12);
    context.fill();
    context.fillStyle = css(scaled(colour, 0.5));
    context.fillRect(
      x + wide * 0.1,
      heightPx - high * 0.8,
      wide * 0.8,
      high * 0.08,
    );
  },
  // Railings.
  (context, random, widthPx, heightPx) => {
    const top = heightPx * random.between(0.6, 0.78);
    context.fillStyle = css([96, 100, 108]);
    context.fillRect(0, top, widthPx, heightPx * 0.025);
    for (
      let x = random.between(0, widthPx * 0.2);
      x < widthPx;
      x += widthPx * 0.22
    )
      context.fillRect(x, top, widthPx * 0.045, heightPx);
  },
];

/** Paints one thing in front of the figure. */
export function drawOccluder(
  context: CanvasContext,
  random: RandomStream,
  widthPx: number,
  heightPx: number,
): void {
  occluders[random.below(occluders.length)](context, random, widthPx, heightPx);
}
