import {
  credentials,
  loadPackageDefinition,
  Metadata,
  type CallOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  type Client as GrpcClient,
  type GrpcObject,
  type ServiceClientConstructor,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { errorFromData, type ErrorKind, type ReidError } from "#core/errors";
import { statusOf } from "#serve/status";
import {
  messageOptions,
  protoFiles,
  serviceNames,
  type RequestOf,
  type ResponseOf,
  type RpcOf,
  type ServiceName,
  type Services,
} from "#serve/protocol";

/** What a call may bring beside its request. */
export interface CallSettings {
  /** Default 60 s. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

/** Who a client is, and how it knows the server. */
export interface ClientSecurity {
  /** Sent with every call, as `authorization: Bearer`. */
  readonly token?: string;
  /** PEM of the authorities that the server's certificate is held to. Without it the connection is in the clear. */
  readonly ca?: Buffer;
  /** PEM of the client's certificate and its key, for mutual TLS; needs `ca`. */
  readonly certificate?: { readonly cert: Buffer; readonly key: Buffer };
}

/** RPCs that are not one request and one response. */
type Streaming =
  "StreamEmbed" | "StreamEnroll" | "ExportMemory" | "WatchOperation";

/** A service as promises, its methods named as in the .proto files. */
export type ServiceClient<Name extends ServiceName> = {
  readonly [Rpc in Exclude<RpcOf<Services[Name]>, Streaming>]: (
    request: RequestOf<Name, Rpc>,
    settings?: CallSettings,
  ) => Promise<ResponseOf<Name, Rpc>>;
};

/** A connection to a server: the seven services and their streams. */
export type Client = {
  readonly [Name in ServiceName]: ServiceClient<Name>;
} & {
  /** Opens `StreamEmbed`; the first message must be `open`. */
  streamEmbed(): ClientDuplexStream<
    RequestOf<"EmbedService", "StreamEmbed">,
    ResponseOf<"EmbedService", "StreamEmbed">
  >;
  /** Opens `StreamEnroll`; the first message must be `open`. */
  streamEnroll(): ClientDuplexStream<
    RequestOf<"GalleryService", "StreamEnroll">,
    ResponseOf<"GalleryService", "StreamEnroll">
  >;
  /** Opens `WatchOperation`; it ends when the operation is done. */
  watchOperation(
    operationId: string,
  ): ClientReadableStream<ResponseOf<"OperationService", "WatchOperation">>;
  /** Waits until the server answers. @throws {ReidError} not within the time */
  ready(timeoutMs: number): Promise<void>;
  /** Idempotent. */
  close(): void;
};

const DEFAULT_DEADLINE_MS = 60_000;
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/**
 * Connects to a server; nothing is sent before the first call.
 *
 * A failed call rejects with a ReidError of the server's reason, kind, message and facts.
 *
 * @param address  HOST:PORT
 */
export function connect(
  address: string,
  { token, ca, certificate }: ClientSecurity = {},
): Client {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  const channel =
    ca === undefined
      ? credentials.createInsecure()
      : credentials.createSsl(ca, certificate?.key, certificate?.cert);
  const constructors = serviceConstructors();
  const clients = new Map<ServiceName, GrpcClient>();
  const options = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  };
  const services: Partial<Record<ServiceName, unknown>> = {};
  for (const name of serviceNames) {
    const Constructor = constructors[name];
    const client = new Constructor(address, channel, options);
    clients.set(name, client);
    services[name] = serviceClient(client, Constructor, metadata);
  }
  const embed = clientOf(clients, "EmbedService");
  // The loader's methods have no types; ServiceClient is generated from the same .proto files.
  return {
    ...(services as { readonly [Name in ServiceName]: ServiceClient<Name> }),
    streamEmbed: () => {
      const method = constructors.EmbedService.service["StreamEmbed"];
      return embed.makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        metadata.clone(),
      ) as ClientDuplexStream<
        RequestOf<"EmbedService", "StreamEmbed">,
        ResponseOf<"EmbedService", "StreamEmbed">
      >;
    },
    streamEnroll: () => {
      const method = constructors.GalleryService.service["StreamEnroll"];
      return clientOf(clients, "GalleryService").makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        metadata.clone(),
      ) as ClientDuplexStream<
        RequestOf<"GalleryService", "StreamEnroll">,
        ResponseOf<"GalleryService", "StreamEnroll">
      >;
    },
    watchOperation: (operationId) => {
      const method = constructors.OperationService.service["WatchOperation"];
      return clientOf(clients, "OperationService").makeServerStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        { operationId },
        metadata.clone(),
      ) as ClientReadableStream<
        ResponseOf<"OperationService", "WatchOperation">
      >;
    },
    ready: (timeoutMs) =>
      new Promise((resolve, reject) =>
        embed.waitForReady(deadline(timeoutMs), (error) => {
          if (error === undefined || error === null) resolve();
          else reject(unreachable(address, error));
        }),
      ),
    close: () => {
      for (const client of clients.values()) client.close();
    },
  };
}

/** What a failed call says, with the server's reason and facts where it sent them. */
export function errorFromCall(error: ServiceError): ReidError {
  const bytes = error.metadata.get("grpc-status-details-bin")[0];
  const details = bytes instanceof Buffer ? readErrorInfo(bytes) : undefined;
  const kind = kindOf(error.code);
  return errorFromData({
    name: "CallError",
    code: details?.reason ?? "CALL_FAILED",
    kind,
    message: error.details === "" ? error.message : error.details,
    facts: details?.metadata ?? {},
  });
}

function unreachable(address: string, cause: Error): ReidError {
  return errorFromData({
    name: "UnreachableError",
    code: "SERVER_UNREACHABLE",
    kind: "unavailable",
    message: `no server answers at ${address} (${cause.message}): start it with reid serve, or give its right address, or --ca where it speaks TLS`,
    facts: { address },
  });
}

function serviceConstructors(): Readonly<
  Record<ServiceName, ServiceClientConstructor>
> {
  const loaded = loadPackageDefinition(
    loadSync([...protoFiles], messageOptions),
  );
  const reid = loaded["reid"] as GrpcObject;
  const v1 = reid["v1"] as GrpcObject;
  return v1 as unknown as Readonly<
    Record<ServiceName, ServiceClientConstructor>
  >;
}

function clientOf(
  clients: ReadonlyMap<ServiceName, GrpcClient>,
  name: ServiceName,
): GrpcClient {
  const client = clients.get(name);
  if (client === undefined) throw new RangeError(`no service ${name}`);
  return client;
}

function serviceClient(
  client: GrpcClient,
  { service }: ServiceClientConstructor,
  metadata: Metadata,
): unknown {
  return Object.fromEntries(
    Object.entries(service)
      .filter(([, method]) => !method.requestStream && !method.responseStream)
      .map(([name, method]) => [
        name,
        (request: object, settings: CallSettings = {}) =>
          new Promise((resolve, reject) => {
            const { signal } = settings;
            const options: CallOptions = {
              deadline: deadline(settings.deadlineMs ?? DEFAULT_DEADLINE_MS),
            };
            const call = client.makeUnaryRequest(
              method.path,
              method.requestSerialize,
              method.responseDeserialize,
              request,
              metadata.clone(),
              options,
              (error, response) => {
                signal?.removeEventListener("abort", cancel);
                if (error === null) resolve(response);
                else reject(errorFromCall(error));
              },
            );
            const cancel = () => call.cancel();
            if (signal?.aborted === true) cancel();
            else signal?.addEventListener("abort", cancel);
          }),
      ]),
  );
}

function deadline(ms: number): Date {
  const date = new Date();
  date.setMilliseconds(date.getMilliseconds() + ms);
  return date;
}

function kindOf(code: number): ErrorKind {
  const kinds: readonly string[] = Object.keys(statusOf);
  const found = kinds.find(
    (kind): kind is ErrorKind =>
      kind in statusOf && statusOf[kind as ErrorKind] === code,
  );
  return found ?? "internal";
}

/** Reason and metadata of the ErrorInfo in a google.rpc.Status. */
function readErrorInfo(status: Uint8Array):
  | {
      readonly reason: string;
      readonly metadata: Readonly<Record<string, string>>;
    }
  | undefined {
  for (const any of readFields(status).get(3) ?? []) {
    const fields = readFields(any);
    if (!text(fields, 1).endsWith("google.rpc.ErrorInfo")) continue;
    const info = readFields(fields.get(2)?.[0] ?? new Uint8Array());
    const metadata = (info.get(3) ?? []).map((entry) => {
      const pair = readFields(entry);
      return [text(pair, 1), text(pair, 2)];
    });
    return {
      reason: text(info, 1),
      metadata: Object.fromEntries(metadata) as Record<string, string>,
    };
  }
  return undefined;
}

function text(
  fields: ReadonlyMap<number, readonly Uint8Array[]>,
  number: number,
): string {
  const bytes = fields.get(number)?.[0];
  return bytes === undefined ? "" : new TextDecoder().decode(bytes);
}

/** Length-delimited fields of a protobuf message by number; numbers are passed over. */
function readFields(bytes: Uint8Array): ReadonlyMap<number, Uint8Array[]> {
  const fields = new Map<number, Uint8Array[]>();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    if (key % 8 !== 2) {
      varint();
      continue;
    }
    const length = varint();
    const number = Math.floor(key / 8);
    const list = fields.get(number) ?? [];
    fields.set(number, [...list, bytes.subarray(at, at + length)]);
    at += length;
  }
  return fields;
}
