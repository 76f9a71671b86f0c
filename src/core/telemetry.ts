import type { Attributes, Observable } from "@opentelemetry/api";
import {
  AggregationTemporality,
  DataPointType,
  MeterProvider,
  MetricReader,
  type Histogram,
  type MetricData,
} from "@opentelemetry/sdk-metrics";
import {
  monitorEventLoopDelay,
  performance,
  type EventLoopUtilization,
} from "node:perf_hooks";
import {
  instruments,
  type InstrumentName,
  type InstrumentSpec,
} from "./instruments.js";
import { renderPrometheus, type Metric, type Series } from "./prometheus.js";

/** Attributes of one measurement, of those its instrument has. */
export type MeasurementAttributes = Readonly<Record<string, string>>;

/** One value of a gauge, or a counter's sum so far, at the moment it is read. */
export interface Reading {
  readonly value: number;
  readonly attributes?: MeasurementAttributes;
}

/** Where measurements go. */
export interface Telemetry {
  /** Adds to a counter or an up-down counter. */
  add(
    name: InstrumentName,
    value: number,
    attributes?: MeasurementAttributes,
  ): void;
  /** Puts a value into a histogram, in its unit. */
  record(
    name: InstrumentName,
    value: number,
    attributes?: MeasurementAttributes,
  ): void;
  /**
   * Names who knows the values of a gauge or an observed counter; asked at every scrape.
   *
   * @returns  takes the reader away again
   */
  observe(
    name: InstrumentName,
    read: () => readonly Reading[] | Promise<readonly Reading[]>,
  ): () => void;
  /** All instruments that have a value, in Prometheus' text format. */
  render(): Promise<string>;
  /** Idempotent; measurements that come later are dropped. */
  close(): Promise<void>;
}

/** How many values an attribute may take before further ones become `_OTHER`. */
const VALUE_LIMITS: Readonly<Record<string, number>> = {
  gallery: 256,
  model: 16,
};

/** Measures through OpenTelemetry, with the instruments of {@link instruments} and Node's own beside them. */
export function createTelemetry(): Telemetry {
  return new OpenTelemetry();
}

/** Measures nothing. */
export const silentTelemetry: Telemetry = {
  add: () => {},
  record: () => {},
  observe: () => () => {},
  render: () => Promise.resolve(""),
  close: () => Promise.resolve(),
};

/** Hands out what was measured when it is asked, and sends nothing anywhere. */
class PullReader extends MetricReader {
  constructor() {
    super({
      aggregationTemporalitySelector: () => AggregationTemporality.CUMULATIVE,
    });
  }
  protected override onShutdown(): Promise<void> {
    return Promise.resolve();
  }
  protected override onForceFlush(): Promise<void> {
    return Promise.resolve();
  }
}

type Sink = (value: number, attributes: Attributes) => void;

class OpenTelemetry implements Telemetry {
  readonly #reader = new PullReader();
  readonly #provider: MeterProvider;
  readonly #sinks = new Map<string, Sink>();
  readonly #readers = new Map<
    string,
    Set<() => readonly Reading[] | Promise<readonly Reading[]>>
  >();
  readonly #seen = new Map<string, Set<string>>();
  readonly #stopNode: () => void;
  #isClosed = false;

  constructor() {
    this.#provider = new MeterProvider({ readers: [this.#reader] });
    for (const [name, spec] of Object.entries(instruments))
      this.#create(name, spec);
    this.#stopNode = observeNode(this);
  }

  add(
    name: InstrumentName,
    value: number,
    attributes: MeasurementAttributes = {},
  ): void {
    this.#sinks.get(name)?.(value, this.#bounded(attributes));
  }

  record(
    name: InstrumentName,
    value: number,
    attributes: MeasurementAttributes = {},
  ): void {
    this.#sinks.get(name)?.(value, this.#bounded(attributes));
  }

  observe(
    name: InstrumentName,
    read: () => readonly Reading[] | Promise<readonly Reading[]>,
  ): () => void {
    const readers = this.#readers.get(name);
    readers?.add(read);
    return () => readers?.delete(read);
  }

  async render(): Promise<string> {
    if (this.#isClosed) return "";
    const { resourceMetrics } = await this.#reader.collect();
    const byName = new Map(
      resourceMetrics.scopeMetrics
        .flatMap((scope) => scope.metrics)
        .map((metric) => [metric.descriptor.name, metric]),
    );
    const metrics: Metric[] = [];
    for (const [name, spec] of Object.entries(instruments)) {
      const series = seriesOf(byName.get(name));
      if (series.length > 0) metrics.push({ name, ...spec, series });
    }
    return renderPrometheus(metrics);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#sinks.clear();
    this.#stopNode();
    await this.#provider.shutdown();
  }

  #create(name: string, spec: InstrumentSpec): void {
    const meter = this.#provider.getMeter("reid");
    const options = { unit: spec.unit, description: spec.description };
    switch (spec.kind) {
      case "counter": {
        const counter = meter.createCounter(name, options);
        this.#sinks.set(name, (value, on) => counter.add(value, on));
        return;
      }
      case "up-down": {
        const counter = meter.createUpDownCounter(name, options);
        this.#sinks.set(name, (value, on) => counter.add(value, on));
        return;
      }
      case "histogram": {
        const histogram = meter.createHistogram(name, {
          ...options,
          advice: { explicitBucketBoundaries: [...(spec.buckets ?? [])] },
        });
        this.#sinks.set(name, (value, on) => histogram.record(value, on));
        return;
      }
      case "observed-counter":
        this.#read(name, meter.createObservableCounter(name, options));
        return;
      case "gauge":
        this.#read(name, meter.createObservableGauge(name, options));
        return;
    }
  }

  /** Asks the instrument's readers at every scrape. */
  #read(name: string, instrument: Observable): void {
    const readers = new Set<
      () => readonly Reading[] | Promise<readonly Reading[]>
    >();
    this.#readers.set(name, readers);
    instrument.addCallback(async (to) => {
      for (const read of readers)
        for (const { value, attributes = {} } of await read())
          to.observe(value, this.#bounded(attributes));
    });
  }

  /** The same attributes, with values beyond an attribute's limit as `_OTHER`. */
  #bounded(attributes: MeasurementAttributes): Attributes {
    const names = Object.keys(attributes).filter((key) => key in VALUE_LIMITS);
    if (names.length === 0) return attributes;
    const bounded: Record<string, string> = { ...attributes };
    for (const name of names) {
      const seen = this.#seen.get(name) ?? new Set();
      this.#seen.set(name, seen);
      const value = bounded[name];
      if (!seen.has(value) && seen.size >= VALUE_LIMITS[name])
        bounded[name] = "_OTHER";
      else seen.add(value);
    }
    return bounded;
  }
}

function seriesOf(metric: MetricData | undefined): Series[] {
  if (metric === undefined) return [];
  return metric.dataPoints.map(({ attributes, value }) => ({
    attributes: Object.fromEntries(
      Object.entries(attributes).map(([key, one]) => [key, String(one)]),
    ),
    value:
      metric.dataPointType === DataPointType.HISTOGRAM
        ? histogramOf(value as Histogram)
        : (value as number),
  }));
}

function histogramOf({ buckets, sum, count }: Histogram) {
  return {
    bounds: buckets.boundaries,
    counts: buckets.counts,
    sum: sum ?? 0,
    count,
  };
}

/** Node's own figures: event loop, heap, process. Each reading starts a new interval. */
function observeNode(telemetry: Telemetry): () => void {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  let before: EventLoopUtilization = performance.eventLoopUtilization();
  const inSeconds = (nanoseconds: number) =>
    Number.isFinite(nanoseconds) ? nanoseconds / 1e9 : 0;
  const stops = [
    telemetry.observe("nodejs.eventloop.delay.mean", () => [
      { value: inSeconds(delay.mean) },
    ]),
    telemetry.observe("nodejs.eventloop.delay.p50", () => [
      { value: inSeconds(delay.percentile(50)) },
    ]),
    telemetry.observe("nodejs.eventloop.delay.p99", () => [
      { value: inSeconds(delay.percentile(99)) },
    ]),
    telemetry.observe("nodejs.eventloop.delay.max", () => {
      const value = inSeconds(delay.max);
      // The last of the four that is read; the next scrape sees a new interval.
      delay.reset();
      return [{ value }];
    }),
    telemetry.observe("nodejs.eventloop.utilization", () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, before);
      before = now;
      return [{ value: utilization }];
    }),
    telemetry.observe("v8js.memory.heap.used", () => [
      { value: process.memoryUsage().heapUsed },
    ]),
    telemetry.observe("process.memory.usage", () => [
      { value: process.memoryUsage.rss() },
    ]),
    telemetry.observe("process.cpu.time", () => {
      const { user, system } = process.cpuUsage();
      return [
        { value: user / 1e6, attributes: { "cpu.mode": "user" } },
        { value: system / 1e6, attributes: { "cpu.mode": "system" } },
      ];
    }),
  ];
  return () => {
    for (const stop of stops) stop();
    delay.disable();
  };
}
