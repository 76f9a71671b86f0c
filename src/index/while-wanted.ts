import { SearchCancelledError } from "./errors.js";

/**
 * Waits for something for as long as the caller does.
 *
 * @throws {SearchCancelledError} the signal fired first; what was waited for goes on
 */
export async function whileWanted(
  work: Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (signal === undefined) return work;
  let stop: () => void = () => undefined;
  const unwanted = new Promise<void>((resolve) => (stop = resolve));
  signal.addEventListener("abort", stop, { once: true });
  try {
    await Promise.race([work, unwanted]);
  } finally {
    signal.removeEventListener("abort", stop);
    // It may still fail, when nobody listens any more.
    work.catch(() => undefined);
  }
  if (signal.aborted) throw new SearchCancelledError("sequence");
}
