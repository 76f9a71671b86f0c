import { ConfigError, ReidError } from "./errors.js";

/** Where a server listens. */
export interface Address {
  /** Name or number, IPv6 without brackets. */
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/** The port is taken, or the address is not this machine's. */
export class ListenError extends ReidError<{ address: string; cause: string }> {
  readonly code = "LISTEN_FAILED";
  readonly kind = "failed-precondition";

  /** @param said  the system's code, or what else it said */
  constructor(address: string, said: string, options?: ErrorOptions) {
    const cause = said === "EADDRINUSE" ? "the port is in use" : said;
    super(
      `cannot listen on ${address} (${cause}): choose another port, or stop what uses this one`,
      { address, cause },
      options,
    );
  }
}

/**
 * Reads `HOST:PORT`, `[IPV6]:PORT` or `:PORT`.
 *
 * @param field  the setting it came from, for the error
 * @throws {ConfigError} it is of another form
 */
export function parseAddress(text: string, field: string): Address {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(parts?.[3]);
  if (parts === null || port > 65_535)
    throw new ConfigError(field, `"${text}"`, "HOST:PORT with a port to 65535");
  const host = parts[1] ?? parts[2] ?? "";
  return { host: host === "" ? "0.0.0.0" : host, port };
}

/** `HOST:PORT`, with brackets around an IPv6 number. */
export function showAddress({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only this machine can reach the host. */
export function isLoopback(host: string): boolean {
  return (
    host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host)
  );
}
