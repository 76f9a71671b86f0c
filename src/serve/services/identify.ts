import { dataFromError, errorFromData, ReidError } from "#core/errors";
import { idMaker } from "#core/ids";
import type { Gallery } from "#index/galleries";
import type { Enrollment, GalleryDescription } from "#index/gallery-types";
import type { KeepResponse } from "#index/request-log";
import type { Priority } from "../batcher.js";
import { attempt } from "../crop-requests.js";
import { FieldInvalidError } from "../errors.js";
import {
  numberIn,
  requireName,
  sequenceFrom,
  wholeIn,
  wordFrom,
} from "../fields.js";
import { FilterBudget, filterFrom } from "../filters.js";
import type { IdentifyRequest__Output } from "../generated/reid/v1/IdentifyRequest.js";
import type { IdentifyResponse } from "../generated/reid/v1/IdentifyResponse.js";
import {
  identificationFrom,
  type Decision,
  type Identification,
} from "../identification.js";
import { modelFrom, priorityFrom } from "../requests.js";
import type { Call } from "./call.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { finite } from "./embed-items.js";
import {
  embedEnrollments,
  enrollmentField,
  parseEnrollment,
} from "./enroll-items.js";
import { countEnrolled } from "./enroll.js";
import { identified, openGallery } from "./open-gallery.js";
import { checkPin, checkSequence, similarityFrom } from "./search-envelope.js";

/** Entries with an identity that a decision looks at. */
const NEAREST = 100;
const DEFAULT_MARGIN = 0.05;
const CANDIDATES = { minimum: 1, maximum: 100 };

/** Which decisions of an enrolment policy enrol. */
type EnrollingDecisions = ReadonlySet<Decision>;

const enrolling: Readonly<Record<string, EnrollingDecisions>> = {
  UNSPECIFIED: new Set(),
  NEVER: new Set(),
  NEW: new Set(["new"]),
  NEW_AND_KNOWN: new Set(["new", "known"]),
};

const decisionNames = {
  known: "DECISION_KNOWN",
  ambiguous: "DECISION_AMBIGUOUS",
  new: "DECISION_NEW",
} as const satisfies Readonly<Record<Decision, string>>;

type Envelope = ReturnType<typeof envelopeFrom>;

/** One decision to be taken. */
interface Question {
  readonly gallery: Gallery;
  readonly envelope: Envelope;
  /** What would be enrolled; its feature is the one that is asked about. */
  readonly enrollment: Enrollment;
  /** Whether the same request may come again for the same answer. */
  readonly isRepeatable: boolean;
  readonly signal: AbortSignal;
}

/** The handler of SearchService/Identify: decides, and enrols where the policy says so. */
export class Identifier {
  readonly #context: ServiceContext;
  readonly #newId: () => string;

  constructor(context: ServiceContext) {
    this.#context = context;
    this.#newId = idMaker(context.clock);
  }

  /** Answers one call. */
  async identify(
    request: IdentifyRequest__Output,
    call: Call,
  ): Promise<IdentifyResponse> {
    const { requests } = this.#context.galleries;
    const { Identify } = serviceDefinition("SearchService");
    const envelope = envelopeFrom(this.#context, request);
    const name = requireName(request.gallery, "gallery");
    const id = identified(request, Identify);
    const answer = async (
      keep: KeepResponse | undefined,
    ): Promise<IdentifyResponse> => {
      const gallery = await openGallery(this.#context, name);
      const description = gallery.describe();
      checkPin(this.#context, envelope.pin, description);
      const { minSequence, priority } = envelope;
      await checkSequence(gallery, minSequence);
      const enrollment = await this.#ready(request, {
        description,
        call,
        priority,
      });
      const { signal } = call;
      const question = {
        gallery,
        envelope,
        enrollment,
        isRepeatable: id !== undefined,
        signal,
      };
      // Without enrolling it is a read: it waits for nobody, and a disk that takes no writes does not hinder it.
      return keep === undefined
        ? this.#decide(question, undefined)
        : // Two crops of one newcomer at once make one identity.
          this.#context.decisions.inTurn(name, signal, () =>
            this.#decide(question, keep),
          );
    };
    if (envelope.enrolling.size === 0) return answer(undefined);
    const bytes = await requests.once(id, async (keep) =>
      Identify.responseSerialize(await answer(keep)),
    );
    return Identify.responseDeserialize(Buffer.from(bytes));
  }

  async #ready(
    request: IdentifyRequest__Output,
    of: {
      readonly description: GalleryDescription;
      readonly call: Call;
      readonly priority: Priority;
    },
  ): Promise<Enrollment> {
    const { description, call, priority } = of;
    const parsed = attempt(() =>
      parseEnrollment(
        this.#context,
        {
          entry: request.entry,
          ttl: request.ttl,
          ...(request.crop === undefined ? {} : { crop: request.crop }),
          ...(request.feature === undefined
            ? {}
            : { feature: request.feature }),
        },
        { field: "", gallery: description },
      ),
    );
    const [ready] = await embedEnrollments(
      this.#context,
      [parsed],
      description,
      {
        priority,
        signal: call.signal,
        remainingMs: finite(call.remainingMs()),
        origin: "identify",
      },
    );
    if (!(ready instanceof ReidError)) return ready;
    const stage = "embedding";
    throw atField(ready, enrollmentField(ready, { parsed, field: "", stage }));
  }

  /** @param keep  undefined: it may not enrol, and its answer is not kept */
  async #decide(
    question: Question,
    keep: KeepResponse | undefined,
  ): Promise<IdentifyResponse> {
    const { gallery, envelope } = question;
    const { found, sequence } = await this.#search(question);
    const { decision } = found;
    this.#context.telemetry.add("reid.identify.decisions", 1, {
      gallery: gallery.name,
      decision,
    });
    const searched = responseFrom(gallery.describe(), {
      found,
      sequence,
      count: envelope.candidates,
    });
    if (keep === undefined) return searched;
    if (envelope.enrolling.has(decision))
      return this.#enroll(question, { found, searched, keep });
    if (question.isRepeatable)
      await this.#context.galleries.requests.write((writer) =>
        keep(writer, serialized(searched)),
      );
    return searched;
  }

  async #search({ gallery, envelope, enrollment, signal }: Question): Promise<{
    readonly found: Identification;
    readonly sequence: number;
  }> {
    const { filter, minSequence } = envelope;
    const { results, sequence } = await gallery.search({
      queries: enrollment.feature,
      k: NEAREST,
      queryFilters: [{ identified: "present" }],
      signal,
      ...(filter === undefined ? {} : { filter }),
      ...(minSequence === 0 ? {} : { minSequence }),
    });
    const entries = results[0].hits.map(({ entry, similarity }) => ({
      identity: entry.identity,
      entryId: entry.entryId,
      similarity,
    }));
    return { found: identificationFrom(entries, envelope), sequence };
  }

  async #enroll(
    { gallery, enrollment, signal }: Question,
    of: {
      readonly found: Identification;
      readonly searched: IdentifyResponse;
      readonly keep: KeepResponse;
    },
  ): Promise<IdentifyResponse> {
    const { found, searched, keep } = of;
    const identity =
      found.decision === "known" && found.identity !== undefined
        ? found.identity
        : `new-${this.#newId()}`;
    const respond = (entryId: string, sequence: number): IdentifyResponse => ({
      ...searched,
      identity,
      entryId,
      sequence: String(sequence),
    });
    signal.throwIfAborted();
    const outcome = await gallery.enroll([{ ...enrollment, identity }], {
      inTransaction: (writer, { results: [made] }) => {
        if (made.error === undefined)
          keep(writer, serialized(respond(made.entryId, made.sequence)));
      },
    });
    const [made] = outcome.results;
    if (made.error !== undefined) throw made.error;
    countEnrolled(this.#context, gallery.name, outcome);
    return respond(made.entryId, made.sequence);
  }
}

function envelopeFrom(
  { config }: ServiceContext,
  request: IdentifyRequest__Output,
) {
  const { entry } = request;
  if (entry !== null && entry.identity !== "")
    throw new FieldInvalidError(
      "entry.identity",
      entry.identity,
      "none: the decision says under which identity an entry is enrolled",
    );
  const budget = new FilterBudget(config.limits.filterValues);
  return {
    filter: filterFrom(request.filter, "filter", budget),
    minSimilarity:
      similarityFrom(request.minSimilarity) ?? config.identify.minSimilarity,
    minMargin:
      request.minMargin === undefined
        ? DEFAULT_MARGIN
        : numberIn(request.minMargin, "min_margin", { minimum: 0, maximum: 2 }),
    candidates: wholeIn(request.candidates, "candidates", CANDIDATES, 5),
    enrolling: wordFrom(request.enroll, "enroll", "ENROLL_POLICY", enrolling),
    minSequence: sequenceFrom(request.minSequence),
    priority: priorityFrom(request.priority),
    pin: modelFrom(request.model),
  };
}

function responseFrom(
  { model }: GalleryDescription,
  of: {
    readonly found: Identification;
    readonly sequence: number;
    readonly count: number;
  },
): IdentifyResponse {
  const { decision, identity, confidence, candidates } = of.found;
  return {
    decision: decisionNames[decision],
    identity: decision === "known" ? (identity ?? "") : "",
    confidence,
    candidates: candidates.slice(0, of.count),
    sequence: String(of.sequence),
    model: { name: model.name, version: model.version },
  };
}

function serialized(response: IdentifyResponse): Uint8Array {
  return serviceDefinition("SearchService").Identify.responseSerialize(
    response,
  );
}

/** The same failure with the path in the request that it is about. */
function atField(error: ReidError, field: string): ReidError {
  const data = dataFromError(error);
  return "field" in data.facts
    ? error
    : errorFromData({ ...data, facts: { ...data.facts, field } });
}
