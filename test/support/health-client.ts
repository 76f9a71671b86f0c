import {
  credentials,
  loadPackageDefinition,
  type GrpcObject,
  type ServiceClientConstructor,
} from "@grpc/grpc-js";
import { healthDefinition } from "#serve/services/health";

/** Watches the health of one service of a server. */
export interface HealthWatch {
  /** Resolves when the server tells this status; at once where it is the last it told. */
  until(status: string): Promise<void>;
  close(): void;
}

/** Opens `grpc.health.v1.Health/Watch`. */
export function watchHealth(address: string, service: string): HealthWatch {
  const grpc = loadPackageDefinition(healthDefinition)["grpc"] as GrpcObject;
  const v1 = (grpc["health"] as GrpcObject)["v1"] as GrpcObject;
  const Constructor = v1["Health"] as ServiceClientConstructor;
  const { path, requestSerialize, responseDeserialize } =
    Constructor.service["Watch"];
  const client = new Constructor(address, credentials.createInsecure());
  const call = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    { service },
  );
  let last = "";
  let waiting: { readonly status: string; resolve(): void }[] = [];
  call.on("data", (answer: { status: string }) => {
    last = answer.status;
    for (const { status, resolve } of waiting) if (status === last) resolve();
    waiting = waiting.filter(({ status }) => status !== last);
  });
  // The server ending, or `close`, ends the watch.
  call.on("error", () => undefined);
  return {
    until: (status) =>
      status === last
        ? Promise.resolve()
        : new Promise((resolve) => waiting.push({ status, resolve })),
    close: () => {
      call.cancel();
      client.close();
    },
  };
}
