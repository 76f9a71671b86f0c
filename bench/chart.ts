import { writeFile } from "node:fs/promises";

import { createCanvas, type CanvasContext } from "#core/canvas";

/** One line of a panel: values at rising positions, both above zero. */
export interface ChartLine {
  readonly name: string;
  readonly colour: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** One pair of axes. */
export interface ChartPanel {
  readonly title: string;
  readonly lines: readonly ChartLine[];
  /** Where two lines meet; undefined: they do not. */
  readonly meeting: number | undefined;
}

/** Panels side by side on the same logarithmic axes. */
export interface Chart {
  readonly title: string;
  readonly xName: string;
  readonly yName: string;
  readonly panels: readonly ChartPanel[];
  /** A line across every panel, with what it is. */
  readonly mark: { readonly x: number; readonly name: string };
}

const panelWidth = 340;
const panelHeight = 300;
const margin = { left: 70, right: 20, top: 80, bottom: 60 };
const ink = "#222";
const faint = "#ddd";
const markColour = "#888";

interface Scale {
  readonly low: number;
  readonly high: number;
  /** Whole powers of ten within. */
  readonly ticks: readonly number[];
}

function scaleOf(values: readonly number[]): Scale {
  const low = Math.min(...values) / 1.3;
  const high = Math.max(...values) * 2;
  const first = Math.ceil(Math.log10(low));
  const last = Math.floor(Math.log10(high));
  const ticks = Array.from(
    { length: Math.max(0, last - first + 1) },
    (_, i) => 10 ** (first + i),
  );
  return { low, high, ticks };
}

function shareOf({ low, high }: Scale, value: number): number {
  return Math.log(value / low) / Math.log(high / low);
}

/** Draws panels of lines over logarithmic axes into a PNG file. */
export async function drawChart(path: string, chart: Chart): Promise<void> {
  const { panels } = chart;
  const points = panels.flatMap(({ lines }) =>
    lines.flatMap((line) => line.points),
  );
  const x = scaleOf([...points.map(([at]) => at), chart.mark.x]);
  const y = scaleOf(points.map(([, value]) => value));
  const width = margin.left + panels.length * (panelWidth + margin.right);
  const height = margin.top + panelHeight + margin.bottom;
  const scale = 2;
  const canvas = createCanvas(width * scale, height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  write(context, chart.title, { x: margin.left, y: 28, size: 17 });
  write(context, chart.yName, { x: 14, y: margin.top - 14, size: 12 });
  panels.forEach((panel, i) => {
    const left = margin.left + i * (panelWidth + margin.right);
    drawPanel(context, panel, { left, x, y, isFirst: i === 0, chart });
  });
  await writeFile(path, await canvas.encode("png"));
}

interface Place {
  readonly left: number;
  readonly x: Scale;
  readonly y: Scale;
  /** The values of y stand at the first panel only. */
  readonly isFirst: boolean;
  readonly chart: Chart;
}

function drawPanel(
  context: CanvasContext,
  panel: ChartPanel,
  { left, x, y, isFirst, chart }: Place,
): void {
  const bottom = margin.top + panelHeight;
  const across = (value: number) => left + panelWidth * shareOf(x, value);
  const up = (value: number) => bottom - panelHeight * shareOf(y, value);
  for (const tick of x.ticks) {
    line(context, faint, [across(tick), margin.top], [across(tick), bottom]);
    const label = tick.toLocaleString("en");
    write(context, label, { x: across(tick), y: bottom + 18, align: "center" });
  }
  for (const tick of y.ticks) {
    line(context, faint, [left, up(tick)], [left + panelWidth, up(tick)]);
    if (isFirst)
      write(context, String(tick), {
        ...{ x: left - 8, y: up(tick) + 4, align: "right" },
      });
  }
  context.strokeStyle = ink;
  context.strokeRect(left, margin.top, panelWidth, panelHeight);
  write(context, panel.title, {
    ...{ x: left + panelWidth / 2, y: margin.top - 14, align: "center" },
    ...{ size: 14, bold: true },
  });
  write(context, chart.xName, {
    ...{ x: left + panelWidth / 2, y: bottom + 40, align: "center" },
  });
  const { x: at, name } = chart.mark;
  context.setLineDash([4, 4]);
  line(context, markColour, [across(at), margin.top], [across(at), bottom]);
  context.setLineDash([]);
  if (isFirst)
    write(context, name, {
      ...{ x: across(at) - 6, y: bottom - 10, align: "right", size: 11 },
    });
  panel.lines.forEach((one, i) => {
    context.lineWidth = 2;
    one.points.slice(1).forEach(([px, py], j) => {
      const [fromX, fromY] = one.points[j];
      line(
        context,
        one.colour,
        [across(fromX), up(fromY)],
        [across(px), up(py)],
      );
    });
    context.lineWidth = 1;
    context.fillStyle = one.colour;
    for (const [px, py] of one.points) dot(context, across(px), up(py), 3);
    write(context, one.name, {
      ...{ x: left + 12, y: margin.top + 20 + 16 * i, colour: one.colour },
    });
  });
  if (panel.meeting === undefined) return;
  const met = panel.lines[0].points;
  const height = valueAt(met, panel.meeting);
  context.strokeStyle = ink;
  context.beginPath();
  context.arc(across(panel.meeting), up(height), 7, 0, 2 * Math.PI);
  context.stroke();
  // On the side that has room.
  const isRight = across(panel.meeting) > left + panelWidth / 2;
  const rounded = Number(panel.meeting.toPrecision(2));
  write(context, rounded.toLocaleString("en"), {
    x: across(panel.meeting) + (isRight ? -10 : 10),
    y: up(height) + (isRight ? -10 : 22),
    align: isRight ? "right" : "left",
    bold: true,
  });
}

/** A line's value between its points, straight on logarithmic axes. */
function valueAt(points: ChartLine["points"], x: number): number {
  const after = points.findIndex(([at]) => at >= x);
  if (after <= 0) return points[0][1];
  const [fromX, fromY] = points[after - 1];
  const [toX, toY] = points[after];
  const share = Math.log(x / fromX) / Math.log(toX / fromX);
  return fromY * (toY / fromY) ** share;
}

type Point = readonly [x: number, y: number];

function line(context: CanvasContext, colour: string, from: Point, to: Point) {
  context.strokeStyle = colour;
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function dot(context: CanvasContext, x: number, y: number, radius: number) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

interface Writing {
  readonly x: number;
  readonly y: number;
  readonly size?: number;
  readonly align?: "left" | "right" | "center";
  readonly colour?: string;
  readonly bold?: boolean;
}

function write(context: CanvasContext, text: string, writing: Writing): void {
  const { x, y, size = 12, align = "left", colour = ink } = writing;
  context.font = `${writing.bold === true ? "bold " : ""}${size}px sans-serif`;
  context.textAlign = align;
  context.fillStyle = colour;
  context.fillText(text, x, y);
}
