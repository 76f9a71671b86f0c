import { ReidError } from "#core/errors";

/** A queue is full, or its work cannot be done before the deadline. */
export class OverloadedError extends ReidError<{
  queue: string;
  depth: number;
  limit: number;
  retryAfterMs: number;
}> {
  readonly code = "OVERLOADED";
  readonly kind = "resource-exhausted";

  /** @param retryAfterMs  when trying again can help; becomes RetryInfo */
  constructor(
    queue: string,
    counts: { readonly depth: number; readonly limit: number },
    retryAfterMs: number,
  ) {
    super(
      `queue ${queue} holds ${counts.depth} crops of at most ${counts.limit}: try again later`,
      { queue, ...counts, retryAfterMs },
    );
  }
}

/** No encoder worker could do the work. */
export class InferenceUnavailableError extends ReidError<{ model: string }> {
  readonly code = "ENGINE_UNAVAILABLE";
  readonly kind = "unavailable";

  constructor(model: string, cause: string, options?: ErrorOptions) {
    super(
      `no worker could run encoder ${model} (${cause}): try again, it is being restarted`,
      { model },
      options,
    );
  }
}

/** No model of that name, or no such version. */
export class ModelNotFoundError extends ReidError<{ model: string }> {
  readonly code = "MODEL_NOT_FOUND";
  readonly kind = "not-found";

  constructor(model: string) {
    super(
      `there is no model "${model}": list the models, or publish a bundle under that name`,
      { model },
    );
  }
}

/** The version pinned is there, but is not loaded. */
export class ModelNotLoadedError extends ReidError<{ model: string }> {
  readonly code = "MODEL_NOT_LOADED";
  readonly kind = "failed-precondition";

  constructor(model: string) {
    super(
      `model ${model} is not loaded: load it, or leave the version to the server`,
      { model },
    );
  }
}

/** A crop came and there is no encoder to embed it with. */
export class NoActiveModelError extends ReidError<{ model: string }> {
  readonly code = "NO_ACTIVE_MODEL";
  readonly kind = "failed-precondition";

  constructor(model: string) {
    super(
      `model ${model === "" ? "(default)" : model} has no active version: publish a bundle into the models folder`,
      { model },
    );
  }
}

/** The caller hung up. */
export class CancelledError extends ReidError<{ stage: string }> {
  readonly code = "CANCELLED";
  readonly kind = "cancelled";

  constructor(stage: string) {
    super(`the call was cancelled by the caller: nothing was done`, { stage });
  }
}

/** The deadline passed before the work was done. */
export class DeadlineError extends ReidError<{ stage: string }> {
  readonly code = "DEADLINE";
  readonly kind = "deadline-exceeded";

  constructor(stage: string) {
    super(
      `the deadline passed in stage ${stage}: allow more time, or send less at once`,
      { stage },
    );
  }
}
