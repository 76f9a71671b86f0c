import { ReidError } from "./errors.js";

/** A bundle whose manifest or encoder is broken, or does not belong together. */
export class ManifestError extends ReidError<{ bundle: string; what: string }> {
  readonly code = "MANIFEST_INVALID";
  readonly kind = "failed-precondition";

  constructor(bundle: string, what: string, options?: ErrorOptions) {
    super(
      `bundle ${bundle} is broken, ${what}: export or import the model again`,
      { bundle, what },
      options,
    );
  }
}

/** Nothing that a model could be read from stands at that path. */
export class BundleNotFoundError extends ReidError<{ path: string }> {
  readonly code = "BUNDLE_NOT_FOUND";
  readonly kind = "not-found";

  constructor(path: string) {
    super(
      `no model bundle at ${path}: give a run's folder, a bundle's folder, or MODELS/NAME`,
      { path },
    );
  }
}

/** A model name that is no name. */
export class ModelNameError extends ReidError<{ name: string }> {
  readonly code = "MODEL_NAME";
  readonly kind = "invalid-argument";

  constructor(name: string) {
    super(
      `"${name}" is no model name: use 1 to 63 of a-z, 0-9, ".", "_" and "-", beginning with a letter or digit`,
      { name },
    );
  }
}
