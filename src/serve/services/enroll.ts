import { ReidError } from "#core/errors";
import type { Writer } from "#core/store";
import type {
  Enrollment as IndexEnrollment,
  EnrollOutcome,
  GalleryDescription,
} from "#index/gallery-types";
import { Turns } from "#index/turns";
import { attempt } from "../crop-requests.js";
import { requireName } from "../fields.js";
import { onExistingFrom } from "../gallery-requests.js";
import type { EnrollRequest__Output } from "../generated/reid/v1/EnrollRequest.js";
import type { EnrollResponse } from "../generated/reid/v1/EnrollResponse.js";
import type { EnrollResult } from "../generated/reid/v1/EnrollResult.js";
import { priorityFrom, requireBatch, requireFewValuesIn } from "../requests.js";
import { failureFrom } from "../status.js";
import type { Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { finite } from "./embed-items.js";
import {
  embedEnrollments,
  enrollmentField,
  parseEnrollment,
  type ParsedEnrollment,
} from "./enroll-items.js";
import { identified, openGallery } from "./open-gallery.js";

/** Enrolments parsed in one turn of the main thread: some 5 µs each. */
const parsedAtOnce = 64;

/** Adds or replaces entries, one transaction; each item has its own outcome. */
export async function enroll(
  context: ServiceContext,
  request: EnrollRequest__Output,
  call: Call,
): Promise<EnrollResponse> {
  const { Enroll } = serviceDefinition("GalleryService");
  const { limits } = context.config;
  requireBatch(request.enrollments, "enrollments", limits.enrollments);
  requireFewValuesIn(request.enrollments, "enrollments");
  const onExisting = onExistingFrom(request.onExisting);
  const priority = priorityFrom(request.priority);
  const name = requireName(request.gallery, "gallery");
  const make = async (
    keep?: (writer: Writer, response: EnrollResponse) => void,
  ): Promise<EnrollResponse> => {
    const gallery = await openGallery(context, name);
    const description = gallery.describe();
    const turns = new Turns(parsedAtOnce);
    const parsed: (ParsedEnrollment | ReidError)[] = [];
    for (const [i, item] of request.enrollments.entries()) {
      const field = `enrollments[${i}]`;
      const of = { field, gallery: description };
      parsed.push(attempt(() => parseEnrollment(context, item, of)));
      if (turns.isOver) await turns.next();
    }
    const ready = await embedEnrollments(context, parsed, description, {
      priority,
      signal: call.signal,
      remainingMs: finite(call.remainingMs()),
      origin: "enroll",
    });
    const accepted = ready.flatMap((item) =>
      item instanceof ReidError ? [] : [item],
    );
    const respond = (outcome: EnrollOutcome) =>
      responseFrom(context, { parsed, ready, outcome, description });
    call.signal.throwIfAborted();
    const outcome = await gallery.enroll(accepted, {
      onExisting,
      ...(keep === undefined
        ? {}
        : {
            inTransaction: (writer: Writer, made: EnrollOutcome) =>
              keep(writer, respond(made)),
          }),
    });
    countEnrolled(context, gallery.name, outcome);
    return respond(outcome);
  };
  const id = identified(request, Enroll);
  // Most calls: their response is made once, and never as bytes that are read again.
  if (id === undefined) return make();
  const bytes = await context.galleries.requests.once(id, async (keep) =>
    Enroll.responseSerialize(
      await make((writer, response) =>
        keep(writer, Enroll.responseSerialize(response)),
      ),
    ),
  );
  return Enroll.responseDeserialize(Buffer.from(bytes));
}

/** Counts what a write has enrolled. */
export function countEnrolled(
  { telemetry }: ServiceContext,
  gallery: string,
  { results }: EnrollOutcome,
): void {
  const written = results.filter(({ error }) => error === undefined);
  telemetry.add("reid.gallery.writes", written.length, {
    gallery,
    write: "enroll",
  });
}

function responseFrom(
  context: ServiceContext,
  made: {
    readonly parsed: readonly (ParsedEnrollment | ReidError)[];
    readonly ready: readonly (IndexEnrollment | ReidError)[];
    readonly outcome: EnrollOutcome;
    readonly description: GalleryDescription;
  },
): EnrollResponse {
  let next = 0;
  const results = made.ready.map((item, i): EnrollResult => {
    const result =
      item instanceof ReidError ? undefined : made.outcome.results[next++];
    const error = item instanceof ReidError ? item : result?.error;
    if (error !== undefined) {
      const path = enrollmentField(error, {
        parsed: made.parsed[i],
        field: `enrollments[${i}]`,
        stage: item instanceof ReidError ? "embedding" : "writing",
      });
      return { error: failureFrom(error, context.log, path) };
    }
    return {
      entryId: result?.entryId ?? "",
      sequence: String(result?.sequence ?? 0),
    };
  });
  const { name, version } = made.description.model;
  return {
    results,
    sequence: String(made.outcome.sequence),
    model: { name, version },
  };
}
