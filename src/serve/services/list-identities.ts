import type { IdentitySummary as Summary } from "#index/gallery-types";
import { timestamp } from "../fields.js";
import { FilterBudget, filterFrom } from "../filters.js";
import type { IdentitySummary } from "../generated/reid/v1/IdentitySummary.js";
import type { ListIdentitiesRequest__Output } from "../generated/reid/v1/ListIdentitiesRequest.js";
import type { ListIdentitiesResponse } from "../generated/reid/v1/ListIdentitiesResponse.js";
import { fittingCount } from "../pages.js";
import type { ServiceContext } from "./context.js";
import { openGallery } from "./open-gallery.js";

/** More than a summary can have beside its texts: count, times, and what frames them. */
const SUMMARY_BYTES = 64;

/** The same of one text. */
const TEXT_BYTES = 4;

/** Identities in byte order, a page at a time. */
export async function listIdentities(
  context: ServiceContext,
  request: ListIdentitiesRequest__Output,
): Promise<ListIdentitiesResponse> {
  const { limits } = context.config;
  const filter = filterFrom(
    request.filter,
    "filter",
    new FilterBudget(limits.filterValues),
  );
  const bound = ["identities", request.gallery, filter ?? null];
  const page = context.pages.read(request, bound, limits.pageSize);
  const gallery = await openGallery(context, request.gallery);
  const { identities, nextIdentity } = await gallery.listIdentities({
    filter,
    after: page.after,
    pageSize: page.size,
  });
  const fitting = fittingCount(identities, bytesOf, limits.responseBytes);
  const next =
    fitting < identities.length
      ? identities[fitting - 1].identity
      : nextIdentity;
  return {
    identities: identities.slice(0, fitting).map(summaryToWire),
    nextPageToken: context.pages.token(next, bound),
  };
}

function bytesOf({ identity, cameraIds }: Summary): number {
  return [identity, ...cameraIds].reduce(
    (sum, text) => sum + Buffer.byteLength(text) + TEXT_BYTES,
    SUMMARY_BYTES,
  );
}

function summaryToWire(summary: Summary): IdentitySummary {
  const { identity, entryCount, cameraIds, captured } = summary;
  return {
    identity,
    entryCount: String(entryCount),
    cameraIds: [...cameraIds],
    captured:
      captured === undefined
        ? null
        : {
            start: timestamp(captured.startUs),
            end: timestamp(captured.endUs),
          },
  };
}
