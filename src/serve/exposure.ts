import { isLoopback, showAddress, type Address } from "#core/address";
import type { Config } from "#core/config";
import type { Log } from "#core/log";
import { InsecureListenError } from "./errors.js";

/** Where a server is to listen, and whether it knows its callers. */
export interface Exposure {
  readonly listen: Address;
  /** Undefined: no metrics are served. */
  readonly metrics: Address | undefined;
  readonly isAuthenticated: boolean;
}

/**
 * Says in the log who can reach the server.
 *
 * @throws {InsecureListenError} others can, callers are not authenticated, and `serve.insecure` is not set
 */
export function checkExposure(
  { listen, metrics, isAuthenticated }: Exposure,
  { serve, tls }: Config,
  log: Log,
): void {
  const open = [listen, ...(metrics === undefined ? [] : [metrics])].filter(
    ({ host }) => !isLoopback(host),
  );
  if (isAuthenticated) {
    if (open.includes(listen) && tls.certificate === undefined)
      log.warn(
        "tokens come over the network in the clear: configure tls, or let something before the server do it",
        { address: showAddress(listen) },
      );
    if (metrics !== undefined && open.includes(metrics))
      log.warn(
        "metrics are shown to anybody who can reach them: they name galleries and models, and nobody in them",
        { address: showAddress(metrics) },
      );
    return;
  }
  if (open.length === 0) {
    log.info("callers are not authenticated: only this machine is listened to");
    return;
  }
  if (!serve.insecure) throw new InsecureListenError(showAddress(open[0]));
  log.warn(
    "anybody who can reach this server may read and change everything: --insecure was given",
    { addresses: open.map(showAddress).join(", ") },
  );
}
