import { get } from "node:http";
import { text } from "node:stream/consumers";
import type { WireServer } from "./wire-server.js";

/** Everything that a server's metrics say at the moment. */
export function scrape({ server }: WireServer): Promise<string> {
  const { host, port } = server.metricsAddress ?? { host: "", port: 0 };
  // A connection of its own: one that was kept may be closed by the server in the same moment.
  const options = { host, port, path: "/metrics", agent: false };
  return new Promise((resolve, reject) =>
    get(options, (response) => resolve(text(response))).on("error", reject),
  );
}

/** One series' value, such as `reid_queue_depth{priority="bulk"}`; undefined: there is none. */
export async function metric(
  wire: WireServer,
  series: string,
): Promise<number | undefined> {
  const line = (await scrape(wire))
    .split("\n")
    .find((one) => one.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

/** Waits until a series has a value that will do. */
export async function untilMetric(
  wire: WireServer,
  series: string,
  isWanted: (value: number | undefined) => boolean,
): Promise<void> {
  while (!isWanted(await metric(wire, series)));
}
