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

/**
 * grpc-js: ServerDuplexStream.call.stream.session, an http2.Http2Session; undefined where another version has none.
 * Where the call is intercepted, `nextCall` leads to the one that has the stream.
 */
function sessionOf(stream: object): { readonly closed?: unknown } | undefined {
  let at = propertyOf(stream, "call");
  for (
    let next = propertyOf(at, "nextCall");
    next !== undefined;
    next = propertyOf(at, "nextCall")
  )
    at = next;
  return propertyOf(propertyOf(at, "stream"), "session");
}

function propertyOf(of: object | undefined, name: string): object | undefined {
  const value: unknown = (
    of as Readonly<Record<string, unknown>> | undefined
  )?.[name];
  return typeof value === "object" && value !== null ? value : undefined;
}
