import { createCanvas, type CanvasContext } from "#core/canvas";
import { randomStream, type RandomStream } from "#core/random";
import type { CameraLook } from "./camera-look.js";
import { css, scaled, type Rgb } from "./colour.js";
import { domainLooks, type DomainLook } from "./domain-look.js";
import type { RenderWorld } from "./render-options.js";

/** What lies behind the people one camera sees: a strip several crops wide. */
export interface Backdrop {
  /** RGBA uint8 [heightPx, widthPx, 4], opaque; only read. */
  readonly pixels: Uint8ClampedArray;
  readonly widthPx: number;
  readonly heightPx: number;
}

/** A part of a backdrop, in its pixels. */
export interface BackdropWindow {
  readonly x: number;
  readonly y: number;
  readonly widthPx: number;
  readonly heightPx: number;
}

const cropsWide = 7;
const cropsHigh = 1.25;

/** Draws a camera's surroundings, the same in every run with the same seed. */
export function drawBackdrop(
  world: RenderWorld,
  cameraId: number,
  camera: CameraLook,
): Backdrop {
  const widthPx = Math.round(world.widthPx * cropsWide);
  const heightPx = Math.round(world.heightPx * cropsHigh);
  const canvas = createCanvas(widthPx, heightPx);
  const random = randomStream(
    world.seed,
    "synthetic backdrop",
    world.domain,
    cameraId,
  );
  const scene: Scene = {
    context: canvas.getContext("2d"),
    random,
    widthPx,
    heightPx,
    // A camera that looks down sees more ground.
    horizon: heightPx * Math.max(0.08, 0.44 - camera.elevation * 0.7),
    unit: world.heightPx,
  };
  scenes[domainLooks[world.domain].scene](scene);
  const { data } = scene.context.getImageData(0, 0, widthPx, heightPx);
  return { pixels: data, widthPx, heightPx };
}

/**
 * Scales a part of a backdrop onto a crop, bilinear.
 *
 * Not by the canvas: what it gives for a canvas drawn onto another depends on how often that was done before.
 *
 * @param crop  RGBA uint8 [heightPx, widthPx, 4]; written whole
 */
export function copyWindow(
  { pixels, widthPx, heightPx }: Backdrop,
  window: BackdropWindow,
  crop: {
    readonly data: Uint8ClampedArray;
    readonly width: number;
    readonly height: number;
  },
): void {
  const scaleX = window.widthPx / crop.width;
  const scaleY = window.heightPx / crop.height;
  let at = 0;
  for (let row = 0; row < crop.height; row++) {
    const y = within(window.y + (row + 0.5) * scaleY - 0.5, heightPx);
    const top = Math.min(heightPx - 2, Math.floor(y));
    const down = y - top;
    for (let column = 0; column < crop.width; column++) {
      const x = within(window.x + (column + 0.5) * scaleX - 0.5, widthPx);
      const left = Math.min(widthPx - 2, Math.floor(x));
      const across = x - left;
      const a = (top * widthPx + left) * 4;
      const b = a + widthPx * 4;
      for (let channel = 0; channel < 3; channel++) {
        const i = a + channel;
        const j = b + channel;
        const above = pixels[i] + (pixels[i + 4] - pixels[i]) * across;
        const below = pixels[j] + (pixels[j + 4] - pixels[j]) * across;
        crop.data[at++] = above + (below - above) * down;
      }
      crop.data[at++] = 255;
    }
  }
}

function within(position: number, sizePx: number): number {
  return Math.min(sizePx - 1, Math.max(0, position));
}

interface Scene {
  readonly context: CanvasContext;
  readonly random: RandomStream;
  readonly widthPx: number;
  readonly heightPx: number;
  readonly horizon: number;
  /** Pixels of a crop's height. */
  readonly unit: number;
}

const scenes: Readonly<Record<DomainLook["scene"], (scene: Scene) => void>> = {
  street: drawStreet,
  hall: drawHall,
};

function grey(
  random: RandomStream,
  low: number,
  high: number,
  warmth: number,
): Rgb {
  const level = random.between(low, high);
  return [level + warmth, level, level - warmth];
}

function drawStreet(scene: Scene): void {
  const { context, random, widthPx, heightPx, horizon, unit } = scene;
  context.fillStyle = css([190, 212, 236]);
  context.fillRect(0, 0, widthPx, horizon);
  for (let x = 0; x < widthPx;) {
    const width = unit * random.between(0.35, 0.9);
    const wall: Rgb =
      random.uniform() < 0.4 ? [168, 108, 84] : grey(random, 140, 220, 12);
    context.fillStyle = css(wall);
    context.fillRect(x, horizon * random.between(0, 0.25), width, horizon + 1);
    context.fillStyle = css(scaled([92, 112, 132], random.between(0.7, 1.3)));
    const step = unit * random.between(0.09, 0.15);
    for (let wx = x + step * 0.4; wx < x + width - step * 0.6; wx += step)
      for (let wy = horizon * 0.25; wy < horizon - step; wy += step * 1.3)
        context.fillRect(wx, wy, step * 0.55, step * 0.8);
    x += width;
  }
  drawGround(scene, grey(random, 150, 190, 8), 0.16);
  const things = [drawTree, drawCar, drawPole, drawStroller, drawBush];
  for (let i = 0; i < 16; i++) things[random.below(things.length)](scene);
  context.fillStyle = "rgba(255,255,255,0.45)";
  if (random.uniform() < 0.5)
    for (let x = 0; x < widthPx; x += unit * 0.3)
      context.fillRect(x, heightPx * 0.78, unit * 0.16, heightPx * 0.05);
}

function drawHall(scene: Scene): void {
  const { context, random, widthPx, horizon, unit } = scene;
  const wall = grey(random, 96, 150, random.between(-8, 8));
  context.fillStyle = css(wall);
  context.fillRect(0, 0, widthPx, horizon);
  for (let x = 0; x < widthPx; x += unit * random.between(0.25, 0.5)) {
    context.fillStyle = css(scaled(wall, random.between(0.75, 1.2)));
    context.fillRect(x, 0, unit * 0.2, horizon);
    context.fillStyle = "rgba(250,250,235,0.8)";
    if (random.uniform() < 0.4)
      context.fillRect(x, horizon * 0.05, unit * 0.16, unit * 0.02);
  }
  drawGround(scene, grey(random, 84, 130, random.between(-6, 6)), 0.12);
  const things = [
    drawPillar,
    drawPoster,
    drawPoster,
    drawMachine,
    drawStroller,
    drawBench,
  ];
  for (let i = 0; i < 16; i++) things[random.below(things.length)](scene);
}

function drawGround(
  { context, random, widthPx, heightPx, horizon, unit }: Scene,
  colour: Rgb,
  joint: number,
): void {
  const paint = context.createLinearGradient(0, horizon, 0, heightPx);
  paint.addColorStop(0, css(scaled(colour, 0.82)));
  paint.addColorStop(1, css(scaled(colour, 1.1)));
  context.fillStyle = paint;
  context.fillRect(0, horizon, widthPx, heightPx);
  context.strokeStyle = `rgba(0,0,0,${joint})`;
  context.lineWidth = Math.max(0.7, unit * 0.008);
  const depth = heightPx - horizon;
  for (let i = 1; i < 9; i++) {
    const y = horizon + depth * (i / 9) ** 1.7;
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(widthPx, y);
    context.stroke();
  }
  const step = unit * random.between(0.12, 0.3);
  const slant = random.normal() * 0.5;
  for (let x = -depth; x < widthPx + depth; x += step) {
    context.beginPath();
    context.moveTo(x, horizon);
    context.lineTo(x + slant * depth, heightPx);
    context.stroke();
  }
  for (let i = 0; i < 60; i++) {
    context.fillStyle = `rgba(${random.uniform() < 0.5 ? "0,0,0" : "255,255,255"},${random.between(0.03, 0.1)})`;
    context.beginPath();
    context.ellipse(
      random.between(0, widthPx),
      random.between(horizon, heightPx),
      unit * random.between(0.02, 0.2),
      unit * random.between(0.01, 0.05),
      0,
      0,
      7,
    );
    context.fill();
  }
}

/** A random place on the ground, farther ones smaller. */
function place({ random, widthPx, heightPx, horizon }: Scene): {
  x: number;
  y: number;
  size: number;
} {
  const near = random.uniform() ** 1.5 * 0.55;
  return {
    x: random.between(0, widthPx),
    y: horizon + (heightPx - horizon) * (0.04 + near),
    size: 0.3 + near * 0.9,
  };
}

function drawTree(scene: Scene): void {
  const { context, random, unit } = scene;
  const { x, y, size } = place(scene);
  const high = unit * size;
  context.fillStyle = css([84, 66, 50]);
  context.fillRect(x - high * 0.03, y - high * 0.5, high * 0.06, high * 0.5);
  for (let i = 0; i < 7; i++) {
    context.fillStyle = css(scaled([70, 112, 58], random.between(0.7, 1.35)));
    context.beginPath();
    context.arc(
      x + random.normal() * high * 0.12,
      y - high * random.between(0.5, 0.9),
      high * 0.15,
      0,
      7,
    );
    context.fill();
  }
}

function drawBush(scene: Scene): void {
  const { context, random, unit } = scene;
  const { x, y, size } = place(scene);
  for (let i = 0; i < 5; i++) {
    context.fillStyle = css(scaled([64, 100, 56], random.between(0.7, 1.4)));
    context.beginPath();
    context.arc(
      x + random.normal() * unit * 0.08,
      y - unit * 0.05 * size,
      unit * 0.08 * size,
      0,
      7,
    );
    context.fill();
  }
}

function drawCar(scene: Scene): void {
  const { context, random, unit } = scene;
  const { x, y, size } = place(scene);
  const long = unit * size * 0.8;
  const colours: readonly Rgb[] = [
    [180, 40, 40],
    [220, 220, 220],
    [50, 60, 80],
    [60, 90, 150],
    [30, 30, 32],
  ];
  context.fillStyle = css(colours[random.below(colours.length)]);
  context.beginPath();
  context.roundRect(x, y - long * 0.25, long, long * 0.2, long * 0.05);
  context.roundRect(
    x + long * 0.2,
    y - long * 0.38,
    long * 0.55,
    long * 0.2,
    long * 0.06,
  );
  context.fill();
  context.fillStyle = css([140, 164, 180]);
  context.fillRect(x + long * 0.27, y - long * 0.35, long * 0.4, long * 0.1);
  context.fillStyle = css([24, 24, 26]);
  for (const wheel of [0.2, 0.8]) {
    context.beginPath();
    context.arc(x + long * wheel, y - long * 0.05, long * 0.08, 0, 7);
    context.fill();
  }
}

function drawPole(scene: Scene): void {
  const { context, unit } = scene;
  const { x, y, size } = place(scene);
  context.fillStyle = css([96, 98, 102]);
  context.fillRect(x, 0, unit * 0.03 * size, y);
}

function drawPillar(scene: Scene): void {
  const { context, random, unit } = scene;
  const { x, y, size } = place(scene);
  const wide = unit * 0.22 * size;
  const colour = grey(random, 90, 170, 2);
  const paint = context.createLinearGradient(x, 0, x + wide, 0);
  paint.addColorStop(0, css(scaled(colour, 0.7)));
  paint.addColorStop(0.4, css(scaled(colour, 1.15)));
  paint.addColorStop(1, css(scaled(colour, 0.6)));
  context.fillStyle = paint;
  context.fillRect(x, 0, wide, y);
}

function drawPoster({ context, random, widthPx, horizon, unit }: Scene): void {
  const x = random.between(0, widthPx);
  const wide = unit * random.between(0.1, 0.28);
  const high = Math.min(horizon * 0.8, unit * random.between(0.12, 0.35));
  const y = horizon - high - unit * 0.03;
  context.fillStyle = css([
    random.between(60, 210),
    random.between(60, 200),
    random.between(60, 200),
  ]);
  context.fillRect(x, y, wide, high);
  context.fillStyle = css([
    random.between(60, 230),
    random.between(60, 220),
    random.between(60, 220),
  ]);
  context.fillRect(x + wide * 0.15, y + high * 0.2, wide * 0.7, high * 0.3);
}

function drawMachine(scene: Scene): void {
  const { context, random, unit } = scene;
  const { x, y, size } = place(scene);
  const wide = unit * 0.3 * size;
  const high = unit * 0.6 * size;
  context.fillStyle = css([
    random.between(40, 150),
    random.between(40, 120),
    random.between(50, 150),
  ]);
  context.fillRect(x, y - high, wide, high);
  context.fillStyle = css([186, 200, 206]);
  context.fillRect(x + wide * 0.12, y - high * 0.9, wide * 0.6, high * 0.55);
}

function drawBench(scene: Scene): void {
  const { context, unit } = scene;
  const { x, y, size } = place(scene);
  context.fillStyle = css([88, 70, 56]);
  context.fillRect(
    x,
    y - unit * 0.14 * size,
    unit * 0.5 * size,
    unit * 0.04 * size,
  );
  context.fillRect(
    x + unit * 0.04 * size,
    y - unit * 0.12 * size,
    unit * 0.03,
    unit * 0.12 * size,
  );
  context.fillRect(
    x + unit * 0.42 * size,
    y - unit * 0.12 * size,
    unit * 0.03,
    unit * 0.12 * size,
  );
}

/** A person in the distance: three soft blobs. */
function drawStroller(scene: Scene): void {
  const { context, random, unit } = scene;
  const { x, y, size } = place(scene);
  const high = unit * size * 0.7;
  const cloth = (): string =>
    css([
      random.between(40, 190),
      random.between(40, 170),
      random.between(50, 180),
    ]);
  context.globalAlpha = 0.85;
  context.fillStyle = cloth();
  context.fillRect(x - high * 0.07, y - high * 0.5, high * 0.14, high * 0.5);
  context.fillStyle = cloth();
  context.beginPath();
  context.ellipse(x, y - high * 0.64, high * 0.13, high * 0.2, 0, 0, 7);
  context.fill();
  context.fillStyle = css([176, 136, 110]);
  context.beginPath();
  context.arc(x, y - high * 0.9, high * 0.065, 0, 7);
  context.fill();
  context.globalAlpha = 1;
}
