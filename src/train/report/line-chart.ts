import { escapeHtml } from "./html.js";

/** One curve; points whose y is null leave a gap. */
export interface ChartSeries {
  readonly name: string;
  readonly points: readonly {
    readonly x: number;
    readonly y: number | null;
  }[];
  /** Thin and pale: what the curve of interest is drawn over. */
  readonly isBackground?: boolean;
}

/** A chart of curves over one axis. */
export interface LineChart {
  readonly title: string;
  readonly xLabel: string;
  readonly series: readonly ChartSeries[];
  /** The y axis holds at least this. */
  readonly yMinimum?: number;
  readonly yMaximum?: number;
  readonly caption?: string;
  /** A vertical line with a word, such as the end of the warm-up. */
  readonly marks?: readonly { readonly x: number; readonly text: string }[];
}

const width = 560;
const height = 270;
const margin = { left: 52, right: 14, top: 12, bottom: 38 };
const colours = 6;

/** Draws curves as inline SVG inside a figure. */
export function lineChart(chart: LineChart): string {
  const points = chart.series.flatMap(({ points }) => points);
  const xs = points.map(({ x }) => x);
  const ys = points.flatMap(({ y }) => (y === null ? [] : [y]));
  if (ys.length === 0) return "";
  const xTicks = ticks(least(xs), greatest(xs), 6, true);
  const yTicks = ticks(
    Math.min(least(ys), chart.yMinimum ?? Infinity),
    Math.max(greatest(ys), chart.yMaximum ?? -Infinity),
    5,
    false,
  );
  const x0 = least(xs);
  const x1 = Math.max(greatest(xs), x0 + 1e-9);
  const y0 = yTicks[0];
  const y1 = yTicks[yTicks.length - 1];
  const px = (x: number) =>
    round(
      margin.left +
        ((x - x0) / (x1 - x0)) * (width - margin.left - margin.right),
    );
  const py = (y: number) =>
    round(
      height -
        margin.bottom -
        ((y - y0) / (y1 - y0)) * (height - margin.top - margin.bottom),
    );

  const grid = yTicks.map(
    (y) =>
      `<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${py(y)}" y2="${py(y)}"/><text x="${margin.left - 8}" y="${py(y) + 4}" text-anchor="end">${number(y)}</text>`,
  );
  const axis = xTicks.map(
    (x) =>
      `<text x="${px(x)}" y="${height - margin.bottom + 18}" text-anchor="middle">${number(x)}</text>`,
  );
  const marks = (chart.marks ?? []).map(
    ({ x, text }) =>
      `<line x1="${px(x)}" x2="${px(x)}" y1="${margin.top}" y2="${height - margin.bottom}" stroke="var(--soft)" stroke-dasharray="3 4"/><text x="${px(x) + 6}" y="${margin.top + 10}">${escapeHtml(text)}</text>`,
  );
  const curves = chart.series.map(({ points, isBackground }, i) => {
    const stroke = isBackground ? 1 : 2.2;
    const opacity = isBackground ? 0.35 : 1;
    const paint = `var(--c${i % colours})`;
    const dots =
      !isBackground && points.length <= 60
        ? points
            .flatMap(({ x, y }) =>
              y === null
                ? []
                : [
                    `<circle cx="${px(x)}" cy="${py(y)}" r="2.4" fill="${paint}"/>`,
                  ],
            )
            .join("")
        : "";
    return `<path d="${pathOf(points, px, py)}" fill="none" stroke="${paint}" stroke-width="${stroke}" opacity="${opacity}" stroke-linejoin="round"/>${dots}`;
  });
  const legend =
    chart.series.length < 2
      ? ""
      : `<div class="legend">${chart.series
          .map(
            ({ name }, i) =>
              `<span><i style="background:var(--c${i % colours})"></i>${escapeHtml(name)}</span>`,
          )
          .join("")}</div>`;
  return `<figure><h3>${escapeHtml(chart.title)}</h3>${legend}<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(chart.title)}">${grid.join("")}${axis.join("")}<text x="${(width + margin.left) / 2}" y="${height - 4}" text-anchor="middle">${escapeHtml(chart.xLabel)}</text>${marks.join("")}${curves.join("")}</svg>${chart.caption === undefined ? "" : `<figcaption>${escapeHtml(chart.caption)}</figcaption>`}</figure>`;
}

function pathOf(
  points: ChartSeries["points"],
  px: (x: number) => number,
  py: (y: number) => number,
): string {
  let isDown = false;
  return points
    .map(({ x, y }) => {
      if (y === null) {
        isDown = false;
        return "";
      }
      const step = `${isDown ? "L" : "M"}${px(x)} ${py(y)}`;
      isDown = true;
      return step;
    })
    .join("");
}

/** Round numbers that cover an interval. */
function ticks(
  low: number,
  high: number,
  count: number,
  isInside: boolean,
): number[] {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step =
    power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const first = isInside ? Math.ceil(low / step) : Math.floor(low / step);
  let last = isInside ? Math.floor(high / step) : Math.ceil(high / step);
  if (!isInside && last <= first) last = first + 1;
  return Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
}

function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
}

function greatest(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function number(value: number): string {
  return Math.abs(value) >= 10_000
    ? value.toExponential(0)
    : String(Number(value.toPrecision(4)));
}
