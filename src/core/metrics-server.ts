import { createServer, type Server } from "node:http";
import { ListenError, showAddress, type Address } from "./address.js";
import { PROMETHEUS_TYPE } from "./prometheus.js";
import type { Telemetry } from "./telemetry.js";

/** An HTTP server that answers `GET /metrics`. */
export interface MetricsServer {
  /** With the port that was really taken. */
  readonly address: Address;
  /** Idempotent; waits for scrapes under way. */
  close(): Promise<void>;
}

/**
 * Serves the metrics in Prometheus' text format on `/metrics`.
 *
 * @throws {ListenError} the address cannot be taken
 */
export async function startMetricsServer(
  address: Address,
  telemetry: Telemetry,
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0];
    if (path !== "/metrics") {
      response.writeHead(404, { "content-type": "text/plain" });
      response.end("metrics are at /metrics\n");
      return;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" });
      response.end();
      return;
    }
    telemetry.render().then(
      (text) => {
        response.writeHead(200, { "content-type": PROMETHEUS_TYPE });
        response.end(request.method === "HEAD" ? undefined : text);
      },
      () => {
        response.writeHead(500);
        response.end();
      },
    );
  });
  const port = await listen(server, address);
  return {
    address: { host: address.host, port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      }),
  };
}

function listen(server: Server, address: Address): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        new ListenError(showAddress(address), error.code ?? error.message, {
          cause: error,
        }),
      ),
    );
    server.listen(address.port, address.host, () => {
      const taken = server.address();
      resolve(
        typeof taken === "object" && taken !== null ? taken.port : address.port,
      );
    });
  });
}
