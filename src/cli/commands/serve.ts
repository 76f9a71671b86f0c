import { showAddress } from "#core/address";
import { loadConfig } from "#core/config";
import { createLog } from "#core/log";
import { startServer } from "#serve/server";
import {
  hasFlag,
  textFlag,
  type Command,
  type CommandContext,
  type JsonObject,
} from "../command.js";

/** `reid serve`: the gRPC server, until SIGINT or SIGTERM. */
export const command: Command = {
  name: "serve",
  summary: "serve embedding, galleries and the online memory over gRPC",
  usage: "--models DIR --data DIR [flags]",
  options: {
    config: {
      type: "string",
      placeholder: "FILE",
      description: "YAML configuration; flags go before it",
    },
    models: {
      type: "string",
      placeholder: "DIR",
      description: "folder of model bundles; default models",
    },
    data: {
      type: "string",
      placeholder: "DIR",
      description: "folder of the durable state; default data",
    },
    listen: {
      type: "string",
      placeholder: "HOST:PORT",
      description: "address of the server; default 127.0.0.1:50051",
    },
    metrics: {
      type: "string",
      placeholder: "HOST:PORT",
      description: "address of /metrics; default 127.0.0.1:9464; empty: none",
    },
    "default-model": {
      type: "string",
      placeholder: "NAME",
      description: "model of requests that name none",
    },
    device: {
      type: "string",
      placeholder: "DEVICE",
      description: "auto, cpu, cuda or webgpu; default auto",
    },
    online: {
      type: "boolean",
      description: "keep an online memory of the crops embedded",
    },
    insecure: {
      type: "boolean",
      description:
        "listen on another address than loopback though nobody is authenticated",
    },
  },
  run,
};

async function run(context: CommandContext): Promise<JsonObject> {
  const { flags, out, signal, environment } = context;
  const config = await loadConfig({
    file: textFlag(flags, "config"),
    environment,
    overrides: {
      "serve.models": textFlag(flags, "models"),
      "serve.data": textFlag(flags, "data"),
      "serve.listen": textFlag(flags, "listen"),
      "serve.metrics": textFlag(flags, "metrics"),
      "serve.default_model": textFlag(flags, "default-model"),
      device: textFlag(flags, "device"),
      "serve.online": hasFlag(flags, "online") ? true : undefined,
      "serve.insecure": hasFlag(flags, "insecure") ? true : undefined,
    },
  });
  const server = await startServer({
    config,
    log: createLog({ level: config.logLevel }),
  });
  const address = showAddress(server.address);
  const metrics =
    server.metricsAddress === undefined
      ? "none"
      : `http://${showAddress(server.metricsAddress)}/metrics`;
  out.line(
    `ready: ${address}, model ${server.defaultModel ?? "none"}, ` +
      `metrics ${metrics}, online memory ${config.serve.online ? "on" : "off"}`,
  );
  await aborted(signal);
  out.line("ending: calls under way are answered");
  await server.close();
  return { address, model: server.defaultModel ?? null };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
