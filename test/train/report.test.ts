import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { randomStream } from "#core/random";
import { normalizeRows } from "#core/vectors";
import {
  featureMap,
  htmlTable,
  lineChart,
  reportPage,
  retrievalStrips,
  writeRunReport,
} from "#train/report";
import { renderDomain, sheetCrops } from "#train/synth";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "reid-report-"));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

const epoch = {
  kind: "epoch",
  phase: "adaptation",
  iterations: 2,
  meanLoss: 1.5,
  mAP: 0.4,
  rank1: 0.5,
  seconds: 2,
  clustering: {
    k1: 12,
    eps: 0.5,
    clusters: 31,
    outliers: 9,
    independenceThreshold: 0.1,
    largestCluster: 20,
    ari: 0.62,
  },
};

describe("writeRunReport", () => {
  test("writes one file that loads nothing from elsewhere", async () => {
    const records = [1, 2].flatMap((number) => [
      ...[1, 2].map((iteration) => ({
        kind: "iteration",
        epoch: number,
        iteration,
        loss: 2 / number,
        sourceLoss: 1 / number,
        targetLoss: 1 / number,
        learningRate: 1e-3,
      })),
      { ...epoch, epoch: number },
    ]);
    await writeFile(
      join(folder, "metrics.jsonl"),
      records.map((record) => `${JSON.stringify(record)}\n`).join(""),
    );
    const file = await writeRunReport({ folder, settings: { preset: "auto" } });
    const html = await readFile(file, "utf8");
    assert.equal(file, join(folder, "report.html"));
    assert.doesNotMatch(html, /https?:|<script|<link|@import|url\(/);
    assert.doesNotMatch(html, /NaN|undefined|Infinity/);
    assert.equal(html.match(/<svg/g)?.length, 6);
    assert.match(html, /31/);
  });

  test("reads a run that has no epoch behind it", async () => {
    const empty = await mkdtemp(join(folder, "empty-"));
    await writeFile(join(empty, "metrics.jsonl"), "");
    const html = await readFile(
      await writeRunReport({ folder: empty }),
      "utf8",
    );
    assert.doesNotMatch(html, /<svg|NaN/);
  });
});

describe("lineChart", () => {
  test("leaves a gap where a value is missing", () => {
    const svg = lineChart({
      title: "t",
      xLabel: "x",
      series: [
        {
          name: "a",
          points: [0, 1, 2, 3].map((x) => ({ x, y: x === 1 ? null : x })),
        },
      ],
    });
    const path = /<path d="([^"]*)"/.exec(svg)?.[1] ?? "";
    assert.equal(path.match(/M/g)?.length, 2);
  });

  test("draws a flat curve and a single point without dividing by nothing", () => {
    for (const ys of [[3, 3, 3], [0, 0], [7]]) {
      const points = ys.map((y, x) => ({ x, y }));
      const svg = lineChart({
        title: "t",
        xLabel: "x",
        series: [{ name: "a", points }],
      });
      assert.match(svg, /<svg/);
      assert.doesNotMatch(svg, /NaN|Infinity/);
    }
  });
});

describe("reportPage", () => {
  test("shows text as text", () => {
    const html = reportPage({
      title: "<b>",
      lede: "a & b",
      sections: [{ heading: "h", body: htmlTable(["<i>"], [["<u>"]]) }],
    });
    assert.doesNotMatch(html, /<b>|<i>|<u>/);
    assert.match(html, /a &amp; b/);
  });
});

describe("retrievalStrips", () => {
  test("frames matches and others apart, with the pictures inside", async () => {
    const out = join(folder, "crops");
    await renderDomain({
      out,
      domain: "source",
      identities: 1,
      testIdentities: 0,
      cameras: 1,
      cropsPerIdentity: 3,
      testCropsPerIdentity: 1,
      seed: 1,
    });
    const [query, first, second] = await sheetCrops(out, 1, 3);
    const html = await retrievalStrips([
      {
        query,
        lists: [
          {
            name: "before",
            hits: [
              { path: first, isMatch: true, similarity: 0.9 },
              { path: second, isMatch: false, similarity: 0.8 },
            ],
          },
        ],
      },
    ]);
    assert.equal(html.match(/crop match/g)?.length, 1);
    assert.equal(html.match(/crop miss/g)?.length, 1);
    assert.equal(html.match(/data:image\/jpeg;base64,/g)?.length, 3);
  });
});

describe("featureMap", () => {
  const groups = 5;
  const perGroup = 20;
  const dimension = 16;

  function groupedFeatures(): Float32Array {
    const random = randomStream(1, "grouped features");
    const centres = Array.from({ length: groups * dimension }, () =>
      random.normal(),
    );
    const rows = Float32Array.from(
      { length: groups * perGroup * dimension },
      (_, i) => {
        const group = Math.floor(i / dimension) % groups;
        return (
          centres[group * dimension + (i % dimension)] + 0.2 * random.normal()
        );
      },
    );
    return normalizeRows(rows, dimension);
  }

  test("keeps neighbours together: the nearest place is of the same group", () => {
    const map = featureMap(groupedFeatures(), dimension, { seed: 1 });
    const count = groups * perGroup;
    for (let i = 0; i < count; i++) {
      let nearest = -1;
      let least = Infinity;
      for (let j = 0; j < count; j++) {
        const distance = Math.hypot(
          map[2 * i] - map[2 * j],
          map[2 * i + 1] - map[2 * j + 1],
        );
        if (j !== i && distance < least) [nearest, least] = [j, distance];
      }
      assert.equal(nearest % groups, i % groups, `feature ${i}`);
    }
  });

  test("is the same for the same seed, and stays within [-1, 1]", () => {
    const features = groupedFeatures();
    const first = featureMap(features, dimension, { seed: 3 });
    assert.deepEqual(first, featureMap(features, dimension, { seed: 3 }));
    assert.ok(first.every((value) => Math.abs(value) <= 1));
  });

  test("takes no feature, one, and equal ones", () => {
    assert.equal(featureMap(new Float32Array(0), 4, { seed: 1 }).length, 0);
    const equal = new Float32Array(40).fill(0.5);
    for (const part of [equal.subarray(0, 4), equal])
      assert.ok(featureMap(part, 4, { seed: 1 }).every(Number.isFinite));
  });
});
