/** How often a stream looks whether its connection is ending, ms. */
const LOOK_MS = 500;
/** Looks within the grace that streams get. */
const LOOKS = 10;

/**
 * Tells a stream that its connection takes no more calls, because it has reached `grpc.max_connection_age_ms`.
 *
 * gRPC for Node ends such a connection by itself, tells nobody, and cuts the streams that are left when the grace
 * is over. Its public interface has nothing of a connection: this looks at the HTTP/2 session under the call.
 *
 * @param graceMs   what is left to a stream from then on
 * @param onEnding  called once
 * @returns         looks no more
 */
export function watchConnection(
  stream: object,
  graceMs: number,
  onEnding: () => void,
): () => void {
  const session = sessionOf(stream);
  if (session === undefined) return () => undefined;
  const timer = setInterval(
    () => {
      if (session.closed !== true) return;
      clearInterval(timer);
      onEnding();
    },
    Math.min(LOOK_MS, Math.max(1, graceMs / LOOKS)),
  );
  timer.unref();
  return () => clearInterval(timer);
}

/** grpc-js: ServerDuplexStream.call.stream.session, an http2.Http2Session; undefined where another version has none. */
function sessionOf(stream: object): { readonly closed?: unknown } | undefined {
  let at: unknown = stream;
  for (const name of ["call", "stream", "session"]) {
    if (typeof at !== "object" || at === null || !(name in at))
      return undefined;
    at = (at as Readonly<Record<string, unknown>>)[name];
  }
  return typeof at === "object" && at !== null ? at : undefined;
}
