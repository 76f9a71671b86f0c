import { concat, lengthDelimited, varint } from "./protobuf-bytes.js";

/** A protobuf field of an outgoing detail: text, a number, or messages below it. */
type Value = string | number | readonly Fields[];
type Fields = Readonly<Record<number, Value | undefined>>;

/** What a google.rpc.Status says beside code and message. */
export interface ErrorDetails {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Paths in the request with what is wrong there; at most 16 are sent. */
  readonly fieldViolations?: readonly {
    readonly field: string;
    readonly description: string;
  }[];
  readonly retryAfterMs?: number;
  readonly resource?: { readonly type: string; readonly name: string };
  readonly quota?: { readonly subject: string; readonly description: string };
}

const DOMAIN = "reid";
/** base64 of this stays under the 8 KiB of metadata that gRPC allows. */
const MAX_BYTES = 4096;
const TYPE_PREFIX = "type.googleapis.com/google.rpc.";

/**
 * The bytes of a google.rpc.Status with its details, at most 4 KiB.
 *
 * Written by hand: five small messages, against a schema registry for `Any`.
 *
 * Source: googleapis/googleapis google/rpc/status.proto and error_details.proto (field numbers).
 */
export function encodeStatus(
  code: number,
  message: string,
  details: ErrorDetails,
): Uint8Array {
  const { reason, metadata, fieldViolations = [] } = details;
  const entries = Object.entries(metadata);
  const anys = [
    any("ErrorInfo", {
      1: reason,
      2: DOMAIN,
      3: entries.map(([key, value]) => ({ 1: key, 2: value })),
    }),
  ];
  if (fieldViolations.length > 0)
    anys.push(
      any("BadRequest", {
        1: fieldViolations
          .slice(0, 16)
          .map(({ field, description }) => ({ 1: field, 2: description })),
      }),
    );
  if (details.retryAfterMs !== undefined)
    anys.push(any("RetryInfo", { 1: [duration(details.retryAfterMs)] }));
  if (details.resource !== undefined)
    anys.push(
      any("ResourceInfo", {
        1: details.resource.type,
        2: details.resource.name,
        4: message,
      }),
    );
  if (details.quota !== undefined)
    anys.push(
      any("QuotaFailure", {
        1: [{ 1: details.quota.subject, 2: details.quota.description }],
      }),
    );
  const status = concat([
    encodeFields({ 1: code, 2: message }),
    ...anys.map((bytes) => lengthDelimited(3, bytes)),
  ]);
  // ErrorInfo is always there; what does not fit beside it is left out.
  return status.length <= MAX_BYTES
    ? status
    : concat([
        encodeFields({ 1: code, 2: message.slice(0, 512) }),
        lengthDelimited(3, any("ErrorInfo", { 1: reason, 2: DOMAIN })),
      ]);
}

/** A google.protobuf.Duration's fields. */
function duration(ms: number): Fields {
  const seconds = Math.floor(ms / 1000);
  return { 1: seconds, 2: Math.round((ms - seconds * 1000) * 1e6) };
}

function any(name: string, fields: Fields): Uint8Array {
  return concat([
    encodeFields({ 1: TYPE_PREFIX + name }),
    lengthDelimited(2, encodeFields(fields)),
  ]);
}

function encodeFields(fields: Fields): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [key, value] of Object.entries(fields)) {
    const number = Number(key);
    if (typeof value === "string" && value !== "")
      parts.push(lengthDelimited(number, new TextEncoder().encode(value)));
    else if (typeof value === "number" && value !== 0)
      parts.push(varint(number * 8), varint(value));
    else if (typeof value === "object")
      for (const item of value)
        parts.push(lengthDelimited(number, encodeFields(item)));
  }
  return concat(parts);
}
