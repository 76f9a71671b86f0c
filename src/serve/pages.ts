import { createHash } from "node:crypto";
import type { Clock } from "#core/clock";
import { PageTokenInvalidError } from "./errors.js";

/** Where a page begins and how long it is. */
export interface PageRequest {
  readonly size: number;
  /** What the page before ended with; undefined: from the beginning. */
  readonly after: string | undefined;
}

/** How long a token is valid. */
const LIFETIME_MS = 3_600_000;
const DEFAULT_SIZE = 100;

/**
 * Page tokens: opaque to callers, bound to the other fields of the request, valid for one hour.
 *
 * A token holds the last key of its page, so that what is added behind the cursor moves nothing.
 */
export class Pages {
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Reads the page fields of a request.
   *
   * @param bound    the request's other fields
   * @param maximum  longest page; larger sizes are cut to it
   * @throws {PageTokenInvalidError} foreign, expired, or other fields changed
   */
  read(
    request: { readonly pageSize: number; readonly pageToken: string },
    bound: unknown,
    maximum: number,
  ): PageRequest {
    const asked = request.pageSize === 0 ? DEFAULT_SIZE : request.pageSize;
    const size = Math.min(asked, maximum);
    if (request.pageToken === "") return { size, after: undefined };
    const { after, until, hash } = parseToken(request.pageToken);
    if (hash !== digest(bound))
      throw new PageTokenInvalidError("belongs to another request");
    if (this.#clock.now() > until)
      throw new PageTokenInvalidError("has expired");
    return { size, after };
  }

  /** The token of the page that follows; empty where there is none. */
  token(after: string | undefined, bound: unknown): string {
    if (after === undefined) return "";
    const until = this.#clock.now() + LIFETIME_MS;
    const text = JSON.stringify([after, until, digest(bound)]);
    return Buffer.from(text).toString("base64url");
  }

  /**
   * Cuts one page out of a sorted list.
   *
   * @param compare  orders an item against the key that the page before ended with; that item may be gone
   */
  slice<Item>(
    items: readonly Item[],
    page: PageRequest,
    {
      keyOf,
      compare,
    }: {
      readonly keyOf: (item: Item) => string;
      readonly compare: (item: Item, key: string) => number;
    },
  ): { readonly items: readonly Item[]; readonly next: string | undefined } {
    const { after } = page;
    const first =
      after === undefined
        ? 0
        : items.findIndex((item) => compare(item, after) > 0);
    const start = first < 0 ? items.length : first;
    const slice = items.slice(start, start + page.size);
    const end = slice.at(-1);
    const isLast = start + page.size >= items.length || end === undefined;
    return { items: slice, next: isLast ? undefined : keyOf(end) };
  }
}

/** How many items, at least one, fit in an answer of so many bytes. */
export function fittingCount<Item>(
  items: readonly Item[],
  bytesOf: (item: Item) => number,
  maximumBytes: number,
): number {
  let bytes = 0;
  const first = items.findIndex((item) => {
    bytes += bytesOf(item);
    return bytes > maximumBytes;
  });
  return first < 0 ? items.length : Math.max(1, first);
}

function parseToken(token: string): {
  readonly after: string;
  readonly until: number;
  readonly hash: string;
} {
  try {
    const parsed: unknown = JSON.parse(
      Buffer.from(token, "base64url").toString(),
    );
    if (Array.isArray(parsed)) {
      const [after, until, hash]: readonly unknown[] = parsed;
      if (
        typeof after === "string" &&
        typeof until === "number" &&
        typeof hash === "string"
      )
        return { after, until, hash };
    }
  } catch {
    // Said below, in the same words as for JSON of another form.
  }
  throw new PageTokenInvalidError("was not given by this server");
}

function digest(bound: unknown): string {
  return createHash("sha256")
    .update(JSON.stringify(bound))
    .digest("base64url")
    .slice(0, 16);
}
