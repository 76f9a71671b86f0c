import type { InstrumentKind } from "./instruments.js";

/** One time series at one moment. */
export interface Series {
  readonly attributes: Readonly<Record<string, string>>;
  readonly value: number | HistogramValue;
}

/** A histogram's state. */
export interface HistogramValue {
  /** Upper bounds, rising. */
  readonly bounds: readonly number[];
  /** Observations per bucket, one more than bounds: the last is above all of them. */
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** One instrument with all its series. */
export interface Metric {
  /** OpenTelemetry's name, with dots. */
  readonly name: string;
  readonly kind: InstrumentKind;
  readonly unit: string;
  readonly description: string;
  readonly series: readonly Series[];
}

/** MIME type of {@link renderPrometheus}. */
export const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/**
 * Renders metrics in Prometheus' text format, in the order given.
 *
 * Source: Prometheus exposition formats, text format 0.0.4; names by api.md 14.
 */
export function renderPrometheus(metrics: readonly Metric[]): string {
  return metrics
    .map((metric) => {
      const name = prometheusName(metric);
      const lines = metric.series.flatMap((series) =>
        seriesLines(name, series),
      );
      const help = metric.description.replace(/\\/g, "\\\\");
      return [
        `# HELP ${name} ${help}`,
        `# TYPE ${name} ${prometheusTypes[metric.kind]}`,
        ...lines,
        "",
      ].join("\n");
    })
    .join("");
}

/**
 * The name that a scrape shows: dots become `_`, then the unit, then `_total` for counters.
 *
 * `s` is `_seconds`, `By` is `_bytes`, `1` of a gauge is `_ratio`, `{…}` is nothing.
 */
export function prometheusName(
  metric: Pick<Metric, "name" | "kind" | "unit">,
): string {
  const base = underscored(metric.name);
  const unit = unitSuffix(metric.unit, metric.kind);
  return (
    base + unit + (prometheusTypes[metric.kind] === "counter" ? "_total" : "")
  );
}

const prometheusTypes: Readonly<Record<InstrumentKind, string>> = {
  counter: "counter",
  "observed-counter": "counter",
  "up-down": "gauge",
  gauge: "gauge",
  histogram: "histogram",
};

function unitSuffix(unit: string, kind: InstrumentKind): string {
  if (unit === "s") return "_seconds";
  if (unit === "By") return "_bytes";
  return unit === "1" && kind === "gauge" ? "_ratio" : "";
}

function seriesLines(name: string, { attributes, value }: Series): string[] {
  if (typeof value === "number")
    return [`${name}${labels(attributes)} ${shown(value)}`];
  let seen = 0;
  const buckets = value.counts.map((count, i) => {
    seen += count;
    const bound = value.bounds[i];
    const le = i < value.bounds.length ? shown(bound) : "+Inf";
    return `${name}_bucket${labels({ ...attributes, le })} ${seen}`;
  });
  return [
    ...buckets,
    `${name}_sum${labels(attributes)} ${shown(value.sum)}`,
    `${name}_count${labels(attributes)} ${value.count}`,
  ];
}

function labels(attributes: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(attributes).map(
    ([key, value]) => `${underscored(key)}="${escaped(value)}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function underscored(name: string): string {
  return name.replace(/[^a-zA-Z0-9_]/g, "_");
}

function escaped(value: string): string {
  return value
    .replace(/\\/g, "\\\\")
    .replace(/\n/g, "\\n")
    .replace(/"/g, '\\"');
}

function shown(value: number): string {
  if (value === Infinity) return "+Inf";
  return value === -Infinity ? "-Inf" : String(value);
}
