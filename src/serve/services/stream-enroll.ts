import type { handleBidiStreamingCall } from "@grpc/grpc-js";
import { ReidError } from "#core/errors";
import type { Gallery } from "#index/galleries";
import type {
  Enrollment as IndexEnrollment,
  EnrollResult,
  GalleryDescription,
  OnExisting,
} from "#index/gallery-types";
import type { Priority } from "../batcher.js";
import { attempt } from "../crop-requests.js";
import { FieldInvalidError } from "../errors.js";
import { requireName, wholeIn } from "../fields.js";
import { onExistingFrom } from "../gallery-requests.js";
import type { StreamEnrollment__Output } from "../generated/reid/v1/StreamEnrollment.js";
import type { StreamEnrollOpen__Output } from "../generated/reid/v1/StreamEnrollOpen.js";
import type { StreamEnrollRequest__Output } from "../generated/reid/v1/StreamEnrollRequest.js";
import type { StreamEnrollResponse } from "../generated/reid/v1/StreamEnrollResponse.js";
import type { StreamEnrollResult } from "../generated/reid/v1/StreamEnrollResult.js";
import { OverloadedError } from "../inference-errors.js";
import { priorityFrom } from "../requests.js";
import { failureFrom } from "../status.js";
import {
  BidiStream,
  bidiStream,
  type OpenStream,
  type StreamWork,
} from "./bidi-stream.js";
import type { ServiceContext } from "./context.js";
import { finite } from "./embed-items.js";
import {
  embedEnrollments,
  enrollmentField,
  parseEnrollment,
  type ParsedEnrollment,
} from "./enroll-items.js";
import { countEnrolled } from "./enroll.js";
import { openGallery } from "./open-gallery.js";

type Rpc = "GalleryService/StreamEnroll";

const DEFAULT_WINDOW = 1024;
/** Enrolments in one commit message, at most. */
const COMMIT_ITEMS = 1024;
/** Commits of one stream under way at once: one is flushed while the next is gathered. */
const COMMITS_AT_ONCE = 2;
/** Path of an enrolment in its message. */
const FIELD = "enrollment.item";

interface Opened {
  readonly gallery: Gallery;
  readonly description: GalleryDescription;
  readonly onExisting: OnExisting;
  readonly window: number;
  readonly priority: Priority;
}

/** An enrolment taken in, in the order of arrival. */
interface Taken {
  readonly correlationId: string;
  readonly parsed: ParsedEnrollment | ReidError;
  /** Undefined: its crop is with the encoder. */
  ready: IndexEnrollment | ReidError | undefined;
}

/** The handler of GalleryService/StreamEnroll. */
export function streamEnroll(
  context: ServiceContext,
): handleBidiStreamingCall<StreamEnrollRequest__Output, StreamEnrollResponse> {
  return bidiStream<Rpc, StreamEnrollResponse>(
    context,
    "GalleryService/StreamEnroll",
    (opened) => new EnrollStream(opened),
  );
}

/**
 * A bulk load: enrolments in, a commit message for each transaction out, at most `window` unanswered.
 *
 * Enrolments are committed in the order of arrival, so the last one under an id stays. A commit takes what
 * has become ready while the one before was flushed; under load it is full, and alone an enrolment waits for nobody.
 */
class EnrollStream implements StreamWork<StreamEnrollRequest__Output> {
  readonly #context: ServiceContext;
  readonly #stream: BidiStream<Rpc, StreamEnrollResponse>;
  readonly #inFlight = new Set<string>();
  #taken: Taken[] = [];
  #opening: Promise<Opened> | undefined;
  #opened: Opened | undefined;
  #commits = 0;
  #isScheduled = false;
  /** Told when nothing is in flight. */
  #settled: (() => void)[] = [];

  constructor(opened: OpenStream<Rpc, StreamEnrollResponse>) {
    this.#context = opened.context;
    this.#stream = new BidiStream(opened, this);
  }

  receive(message: StreamEnrollRequest__Output): void {
    const { open, enrollment } = message;
    if (open !== null && open !== undefined) {
      this.#stream.call.permit(message);
      this.#open(open);
    } else if (enrollment === null || enrollment === undefined)
      throw new FieldInvalidError("message", "empty", "open or enrollment");
    else if (this.#opened === undefined)
      throw new FieldInvalidError(
        "open",
        "missing",
        "open in the first message",
      );
    else this.#take(enrollment, this.#opened);
  }

  /** Waits until every enrolment taken in has been answered. */
  async settle(): Promise<void> {
    await this.#opening;
    if (this.#inFlight.size > 0 && !this.#stream.isEnded)
      await new Promise<void>((resolve) => this.#settled.push(resolve));
  }

  /** What is not in a transaction yet never will be. */
  end(): void {
    this.#taken = [];
    this.#inFlight.clear();
    this.#wake();
  }

  #open(open: StreamEnrollOpen__Output): void {
    if (this.#opening !== undefined)
      throw new FieldInvalidError("open", "sent again", "open once");
    const maximum = this.#context.config.limits.windowEnrollments;
    const name = requireName(open.gallery, "open.gallery");
    const settings = {
      onExisting: onExistingFrom(open.onExisting, "open.on_existing"),
      window: wholeIn(
        open.window,
        "open.window",
        { minimum: 1, maximum },
        Math.min(DEFAULT_WINDOW, maximum),
      ),
      priority: priorityFrom(open.priority, "open.priority", "bulk"),
    };
    // The gallery is found first: no enrolment is looked at before.
    this.#stream.hold();
    this.#opening = openGallery(this.#context, name).then((gallery) => {
      const description = gallery.describe();
      return { ...settings, gallery, description };
    });
    this.#opening.then(
      (opened) => {
        this.#opened = opened;
        const { name: model, version } = opened.description.model;
        const { window } = opened;
        this.#stream.send({
          opened: { window, model: { name: model, version } },
        });
        this.#stream.release();
      },
      (error: unknown) => this.#stream.fail(error),
    );
  }

  #take(message: StreamEnrollment__Output, opened: Opened): void {
    const { correlationId, item } = message;
    if (this.#inFlight.has(correlationId))
      throw new FieldInvalidError(
        "enrollment.correlation_id",
        correlationId,
        "a number that no enrolment in flight has",
      );
    if (this.#inFlight.size >= opened.window) {
      const counts = { depth: this.#inFlight.size, limit: opened.window };
      const error = new OverloadedError("window", counts, 100);
      this.#refuse(correlationId, error, opened);
      return;
    }
    const parsed =
      item === null
        ? new FieldInvalidError(FIELD, "", "a crop or a feature")
        : attempt(() =>
            parseEnrollment(this.#context, item, {
              field: FIELD,
              gallery: opened.description,
            }),
          );
    const taken: Taken = { correlationId, parsed, ready: readyFrom(parsed) };
    this.#inFlight.add(correlationId);
    this.#taken.push(taken);
    if (taken.ready === undefined)
      this.#embed(taken, opened).catch((error: unknown) =>
        this.#stream.fail(error),
      );
    else this.#schedule(opened);
  }

  /** Beyond the window: answered at once, and not counted as in flight. */
  #refuse(correlationId: string, error: ReidError, opened: Opened): void {
    const { sequence } = opened.gallery.describe();
    this.#stream.send({
      commit: {
        results: [this.#failure(correlationId, error, FIELD)],
        sequence: String(sequence),
      },
    });
  }

  async #embed(taken: Taken, opened: Opened): Promise<void> {
    const { signal } = this.#stream.call;
    const { priority, description } = opened;
    try {
      const place = this.#context.inference.place(priority, signal);
      const places = [
        place instanceof Promise ? await this.#held(place) : place,
      ];
      const [ready] = await embedEnrollments(
        this.#context,
        [taken.parsed],
        description,
        {
          places,
          priority,
          signal,
          remainingMs: finite(this.#stream.call.remainingMs()),
          origin: "enroll",
        },
      );
      taken.ready = ready;
    } catch (error) {
      if (!(error instanceof ReidError) || signal.aborted) throw error;
      taken.ready = error;
    }
    this.#schedule(opened);
  }

  /** Reads no further while the queue is full. */
  async #held<Value>(waiting: Promise<Value>): Promise<Value> {
    this.#stream.hold();
    try {
      return await waiting;
    } finally {
      this.#stream.release();
    }
  }

  /** Commits at the end of this turn what is ready by then. */
  #schedule(opened: Opened): void {
    if (this.#isScheduled || this.#commits >= COMMITS_AT_ONCE) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#commit(opened).catch((error: unknown) => this.#stream.fail(error));
    });
  }

  async #commit(opened: Opened): Promise<void> {
    const share = this.#takeReady();
    if (share.length === 0 || this.#stream.isEnded) return;
    this.#commits += 1;
    // What waits beyond this share goes into the next, beside this one.
    if (this.#taken.length > 0) this.#schedule(opened);
    const accepted = share.flatMap(({ ready }) =>
      ready === undefined || ready instanceof ReidError ? [] : [ready],
    );
    const { gallery, onExisting } = opened;
    const outcome =
      accepted.length === 0
        ? { results: [], sequence: gallery.describe().sequence }
        : await gallery.enroll(accepted, { onExisting });
    this.#commits -= 1;
    countEnrolled(this.#context, gallery.name, outcome);
    let next = 0;
    const results = share.map((taken) =>
      taken.ready instanceof ReidError
        ? this.#resultOf(taken, undefined)
        : this.#resultOf(taken, outcome.results[next++]),
    );
    for (const { correlationId } of share) this.#inFlight.delete(correlationId);
    this.#stream.send({
      commit: { results, sequence: String(outcome.sequence) },
    });
    if (this.#inFlight.size === 0) this.#wake();
    else this.#schedule(opened);
  }

  /** The oldest that are ready, up to the first that is not. */
  #takeReady(): readonly Taken[] {
    const waiting = this.#taken.findIndex(({ ready }) => ready === undefined);
    const count = waiting < 0 ? this.#taken.length : waiting;
    return this.#taken.splice(0, Math.min(count, COMMIT_ITEMS));
  }

  #resultOf(
    { correlationId, parsed, ready }: Taken,
    result: EnrollResult | undefined,
  ): StreamEnrollResult {
    const error = ready instanceof ReidError ? ready : result?.error;
    if (error !== undefined) {
      const stage = ready instanceof ReidError ? "embedding" : "writing";
      const field = enrollmentField(error, { parsed, field: FIELD, stage });
      return this.#failure(correlationId, error, field);
    }
    return {
      correlationId,
      result: {
        entryId: result?.entryId ?? "",
        sequence: String(result?.sequence ?? 0),
      },
    };
  }

  #failure(
    correlationId: string,
    error: ReidError,
    field: string,
  ): StreamEnrollResult {
    const failure = failureFrom(error, this.#context.log, field);
    return { correlationId, result: { error: failure } };
  }

  #wake(): void {
    const settled = this.#settled;
    this.#settled = [];
    for (const resolve of settled) resolve();
  }
}

function readyFrom(
  parsed: ParsedEnrollment | ReidError,
): IndexEnrollment | ReidError | undefined {
  if (parsed instanceof ReidError) return parsed;
  return parsed.crop === undefined
    ? { ...parsed.entry, feature: parsed.feature }
    : undefined;
}
