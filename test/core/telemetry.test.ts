import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createTelemetry } from "#core/telemetry";

describe("createTelemetry", () => {
  test("shows processor time as a counter of seconds that only rises", async () => {
    const telemetry = createTelemetry();
    try {
      const seen: number[] = [];
      for (let scrape = 0; scrape < 3; scrape++) {
        const text = await telemetry.render();
        assert.match(text, /^# TYPE process_cpu_time_seconds_total counter$/m);
        const user =
          /^process_cpu_time_seconds_total\{cpu_mode="user"\} (\S+)$/m.exec(
            text,
          );
        assert.match(
          text,
          /^process_cpu_time_seconds_total\{cpu_mode="system"/m,
        );
        seen.push(Number(user?.[1]));
      }
      // The process's own sum, not what was added since the scrape before.
      assert.ok(seen[0] > 0);
      assert.ok(seen[0] <= seen[1] && seen[1] <= seen[2], seen.join(" "));
      assert.ok(seen[2] <= process.cpuUsage().user / 1e6);
    } finally {
      await telemetry.close();
    }
  });

  test("asks a gauge's reader at every scrape", async () => {
    const telemetry = createTelemetry();
    try {
      let value = 3;
      telemetry.observe("reid.store.size", () => [{ value }]);
      assert.match(await telemetry.render(), /^reid_store_size_bytes 3$/m);
      value = 2;
      assert.match(await telemetry.render(), /^reid_store_size_bytes 2$/m);
    } finally {
      await telemetry.close();
    }
  });
});
