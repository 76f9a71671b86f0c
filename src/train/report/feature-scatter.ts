import { escapeHtml } from "./html.js";

/** What a map shows. */
export interface FeatureScatter {
  readonly title: string;
  /** float32 [N, 2], from `featureMap`. */
  readonly positions: Float32Array;
  /** N; one colour each. */
  readonly identities: readonly number[];
  /** N; one shape each, repeating after four. */
  readonly cameras: readonly number[];
  readonly caption?: string;
}

const size = 480;
const border = 16;

/** Draws a map of features: colour tells the identity, shape the camera. */
export function featureScatter(scatter: FeatureScatter): string {
  const { positions, identities, cameras } = scatter;
  const numbers = new Map(
    [...new Set(identities)]
      .sort((a, b) => a - b)
      .map((identity, i) => [identity, i]),
  );
  const cameraNumbers = new Map(
    [...new Set(cameras)].sort((a, b) => a - b).map((camera, i) => [camera, i]),
  );
  const place = (value: number) =>
    Math.round((size / 2 + value * (size / 2 - border)) * 10) / 10;
  const marks = identities.map((identity, i) => {
    const x = place(positions[2 * i]);
    const y = place(positions[2 * i + 1]);
    const k = numbers.get(identity) ?? 0;
    // The golden angle keeps neighbouring numbers apart in hue; three lightnesses tell more identities than hues can.
    const hue = Math.round((k * 137.508) % 360);
    const lightness = [42, 54, 66][k % 3];
    const shape = shapes[(cameraNumbers.get(cameras[i]) ?? 0) % shapes.length];
    return `<path d="${shape(x, y)}" fill="hsl(${hue} 62% ${lightness}%)"><title>identity ${identity}, camera ${cameras[i]}</title></path>`;
  });
  return `<figure><h3>${escapeHtml(scatter.title)}</h3><svg viewBox="0 0 ${size} ${size}" role="img" aria-label="${escapeHtml(scatter.title)}">${marks.join("")}</svg>${scatter.caption === undefined ? "" : `<figcaption>${escapeHtml(scatter.caption)}</figcaption>`}</figure>`;
}

const shapes: readonly ((x: number, y: number) => string)[] = [
  (x, y) => `M${x - 3.4} ${y}a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0`,
  (x, y) => `M${x - 3} ${y - 3}h6v6h-6z`,
  (x, y) => `M${x} ${y - 4}l4 7h-8z`,
  (x, y) => `M${x} ${y - 4.2}l4.2 4.2l-4.2 4.2l-4.2 -4.2z`,
];
