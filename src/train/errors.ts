import { ReidError } from "#core/errors";

/** A node on the way from the parameters to the loss whose operator has no gradient rule. */
export class NoGradientRuleError extends ReidError<{
  op: string;
  node: string;
  rules: string;
}> {
  readonly code = "NO_GRADIENT_RULE";
  readonly kind = "unimplemented";

  constructor(op: string, node: string, rules: readonly string[]) {
    super(
      `operator ${op} of node "${node}" has no gradient rule: express it by operators that have one (${rules.join(", ")})`,
      { op, node, rules: rules.join(" ") },
    );
  }
}

/** A gradient rule exists, but not for this use of the operator. */
export class GradientUnsupportedError extends ReidError<{
  op: string;
  node: string;
  reason: string;
}> {
  readonly code = "GRADIENT_UNSUPPORTED";
  readonly kind = "unimplemented";

  constructor(op: string, node: string, reason: string, remedy: string) {
    super(
      `operator ${op} of node "${node}" cannot be differentiated: ${reason}: ${remedy}`,
      { op, node, reason },
    );
  }
}

/** An encoder that cannot be trained as it is: inputs, outputs or element types do not fit. */
export class EncoderUntrainableError extends ReidError<{
  expected: string;
  received: string;
}> {
  readonly code = "ENCODER_UNTRAINABLE";
  readonly kind = "invalid-argument";

  constructor(expected: string, received: string, remedy: string) {
    super(`encoder has ${received}, expected ${expected}: ${remedy}`, {
      expected,
      received,
    });
  }
}

/** The loss became NaN or infinite. */
export class LossNotFiniteError extends ReidError<{
  epoch: number;
  iteration: number;
  loss: string;
  checkpoint: string;
}> {
  readonly code = "LOSS_NOT_FINITE";
  readonly kind = "failed-precondition";

  constructor(
    loss: number,
    at: { readonly epoch: number; readonly iteration: number },
    checkpoint: string | undefined,
  ) {
    const remedy =
      checkpoint === undefined
        ? "start again with a lower learning rate"
        : `resume from ${checkpoint} with a lower learning rate`;
    super(
      `loss is ${loss} in epoch ${at.epoch}, iteration ${at.iteration}: ${remedy}`,
      { ...at, loss: String(loss), checkpoint: checkpoint ?? "" },
    );
  }
}

/** A saved training state that belongs to another encoder or other settings. */
export class CheckpointMismatchError extends ReidError<{
  name: string;
  expected: string;
  received: string;
}> {
  readonly code = "CHECKPOINT_MISMATCH";
  readonly kind = "failed-precondition";

  constructor(name: string, expected: string, received: string) {
    super(
      `checkpoint has ${received} for "${name}", this run needs ${expected}: resume with the encoder and settings the checkpoint was made with`,
      { name, expected, received },
    );
  }
}

/** A device or engine was asked for that is not there. */
export class EngineUnavailableError extends ReidError<{
  engine: string;
  device: string;
}> {
  readonly code = "ENGINE_UNAVAILABLE";
  readonly kind = "unavailable";

  constructor(
    engine: string,
    device: string,
    remedy: string,
    options?: ErrorOptions,
  ) {
    super(
      `engine ${engine} has no device "${device}" here: ${remedy}`,
      { engine, device },
      options,
    );
  }
}

/** A data set folder that is not laid out as its format says. */
export class DataSetLayoutError extends ReidError<{
  path: string;
  expected: string;
  received: string;
}> {
  readonly code = "DATASET_LAYOUT";
  readonly kind = "invalid-argument";

  constructor(
    path: string,
    expected: string,
    received: string,
    remedy: string,
  ) {
    super(`${path} is ${received}, expected ${expected}: ${remedy}`, {
      path,
      expected,
      received,
    });
  }
}

/** A checkpoint file that is cut short or damaged. */
export class CheckpointCorruptError extends ReidError<{
  path: string;
  reason: string;
}> {
  readonly code = "CHECKPOINT_CORRUPT";
  readonly kind = "data-loss";

  constructor(path: string, reason: string) {
    super(
      `${path} is not a whole checkpoint: ${reason}: remove it to resume from the one before`,
      { path, reason },
    );
  }
}

/** A bundle that does not compute what the training graph computes. */
export class ExportVerificationError extends ReidError<{
  largestDifference: number;
  allowed: number;
  crops: number;
}> {
  readonly code = "EXPORT_VERIFICATION";
  readonly kind = "internal";

  constructor(largestDifference: number, allowed: number, crops: number) {
    super(
      `features of ${crops} crops differ by ${largestDifference} between training graph and bundle, allowed is ${allowed}: the bundle was not written; report this with the encoder`,
      { largestDifference, allowed, crops },
    );
  }
}

/** A run's folder that already holds a run. */
export class RunExistsError extends ReidError<{ folder: string }> {
  readonly code = "RUN_EXISTS";
  readonly kind = "already-exists";

  constructor(folder: string) {
    super(
      `${folder} already holds a training run: continue it with --resume, or give another --out`,
      { folder },
    );
  }
}

/** Queries or a gallery that cannot be judged by. */
export class EvaluationSetError extends ReidError<{
  set: string;
  problem: string;
}> {
  readonly code = "EVALUATION_SET";
  readonly kind = "invalid-argument";

  constructor(set: string, problem: string, remedy: string) {
    super(`${set} set has ${problem}: ${remedy}`, { set, problem });
  }
}

/** A word that is neither a built-in encoder nor a file. */
export class EncoderNotFoundError extends ReidError<{ encoder: string }> {
  readonly code = "ENCODER_NOT_FOUND";
  readonly kind = "not-found";

  /** @param known  names that would do as well as a bundle; none where only a file is taken */
  constructor(encoder: string, known: readonly string[]) {
    const names =
      known.length === 0 ? "" : `, a bundle, or one of ${known.join(", ")}`;
    super(`no encoder "${encoder}": give an .onnx file${names}`, { encoder });
  }
}

/** An encoder file that does not take exactly one image. */
export class EncoderInputsError extends ReidError<{ received: string }> {
  readonly code = "ENCODER_INPUTS";
  readonly kind = "invalid-argument";

  constructor(received: string) {
    super(
      `encoder takes ${received}, expected one float32 input [batch, 3, height, width]: export it with the image as its only input`,
      { received },
    );
  }
}

/** An encoder file that does not end in exactly one feature. */
export class EncoderOutputError extends ReidError<{ received: string }> {
  readonly code = "ENCODER_OUTPUT";
  readonly kind = "invalid-argument";

  constructor(received: string) {
    super(
      `encoder gives ${received}, expected one feature [batch, D]: name the node that makes it with --feature-node`,
      { received },
    );
  }
}

/** `--feature-node` names nothing in the file. */
export class FeatureNodeNotFoundError extends ReidError<{ node: string }> {
  readonly code = "FEATURE_NODE_NOT_FOUND";
  readonly kind = "not-found";

  constructor(node: string, candidates: readonly string[]) {
    super(
      `encoder has no node or value "${node}": the last ones of shape [batch, D] are ${candidates.join(", ")}`,
      { node },
    );
  }
}

/** An encoder that cannot take crops of that size. */
export class EncoderSizeError extends ReidError<{
  heightPx: number;
  widthPx: number;
  reason: string;
}> {
  readonly code = "ENCODER_SIZE";
  readonly kind = "invalid-argument";

  constructor(
    size: { readonly heightPx: number; readonly widthPx: number },
    reason: string,
    options?: ErrorOptions,
  ) {
    super(
      `encoder does not take crops of ${size.heightPx} × ${size.widthPx}, ${reason}: give --height and --width that it was made for`,
      { heightPx: size.heightPx, widthPx: size.widthPx, reason },
      options,
    );
  }
}

/** A weights file of which nothing fits the encoder. */
export class WeightsUnmatchedError extends ReidError<{
  weights: number;
  expected: number;
}> {
  readonly code = "WEIGHTS_UNMATCHED";
  readonly kind = "invalid-argument";

  constructor(weights: readonly string[], expected: readonly string[]) {
    const some = (names: readonly string[]) => names.slice(0, 3).join(", ");
    super(
      `no weight fits by name and shape, the file has ${some(weights)} …, the encoder ${some(expected)} …: export the weights with batch norms kept and names as PyTorch has them`,
      { weights: weights.length, expected: expected.length },
    );
  }
}
