import { assert } from "#core/errors";
import { GraphBuilder } from "#onnx/builder";
import { foldConstants } from "#onnx/folding";
import type { Model, Node, Tensor } from "#onnx/graph";
import { inferKnown } from "#onnx/shapes";
import { differentiate, type KnownValue } from "./autodiff.js";
import { GradientBuilder } from "./autodiff/gradient-builder.js";
import type { Domain, SessionOptions } from "./engine.js";
import { EncoderUntrainableError } from "./errors.js";

/** Whose a vector is: trained by every crop, or the copies of one domain's batch norms. */
export type Group = "shared" | Domain;

/** A tensor's place in its group's vector. */
export interface Place {
  /** The initializer's name in the encoder. */
  readonly name: string;
  readonly dims: readonly number[];
  readonly offset: number;
  readonly size: number;
}

/** Everything of one group that training moves: each list fills one vector without gaps. */
export interface GroupLayout {
  readonly trained: readonly Place[];
  readonly trainedSize: number;
  /** Running means and variances. */
  readonly statistics: readonly Place[];
  readonly statisticsSize: number;
}

/** Which numbers of an encoder are trained and where they lie. */
export interface ParameterLayout {
  /** Batch norms have a copy a domain. */
  readonly isDomainSpecific: boolean;
  readonly groups: ReadonlyMap<Group, GroupLayout>;
  /** D. */
  readonly dimension: number;
}

/** An encoder made ready for training. */
export interface PreparedEncoder {
  /** Constants folded; weights under the names they came with. */
  readonly encoder: Model;
  readonly layout: ParameterLayout;
}

/** A fixed input size instead of the one the encoder declares; the batch stays open. */
export interface CropSize {
  readonly heightPx: number;
  readonly widthPx: number;
}

/** What is known of each value of an encoder fed with a batch of crops of one size. */
export function encoderValues(
  encoder: Model,
  { heightPx, widthPx }: CropSize,
  batch: string,
): ReadonlyMap<string, KnownValue> {
  const { inputs } = encoder.graph;
  const known = inferKnown(encoder, {
    inputs: { [inputs[0].name]: [batch, 3, heightPx, widthPx] },
  });
  return new Map(
    [...known].map(([name, { dataType, dims, contents }]) => [
      name,
      { name, dataType, dims, ...(contents === undefined ? {} : { contents }) },
    ]),
  );
}

/**
 * Folds an encoder's constants and finds what is trained: the float32 initializers of at least one axis that the feature depends on, running
 * statistics aside. Constants written as nodes, and scalars, are part of the formula and stay.
 *
 * @throws {EncoderUntrainableError} not one image input and one feature output
 * @throws {NoGradientRuleError} an operator on the way has no gradient rule
 */
export function prepareEncoder(
  original: Model,
  options: Pick<SessionOptions, "domainSpecificBatchNorm" | "featureBias"> &
    CropSize,
): PreparedEncoder {
  requireEncoder(original);
  const encoder = foldConstants(original);
  const { graph } = encoder;
  const values = encoderValues(encoder, options, "batch");
  const feature = values.get(graph.outputs[0].name);
  const dimension = feature?.dims[1];
  if (feature?.dims.length !== 2 || typeof dimension !== "number")
    throw new EncoderUntrainableError(
      "an output [batch, D]",
      `output "${graph.outputs[0].name}" [${feature?.dims.join(", ") ?? ""}]`,
      "name the feature's value with --feature-node",
    );

  const batchNorms = graph.nodes.filter(isBatchNormalization);
  const statistics = new Set(
    batchNorms.flatMap(({ inputs }) => inputs.slice(3, 5)),
  );
  const affine = new Set(
    batchNorms.flatMap(({ inputs }) => inputs.slice(1, 3)),
  );
  const frozen =
    options.featureBias === "frozen" ? batchNorms.at(-1)?.inputs[2] : undefined;
  const candidates = [...graph.initializers]
    .filter(
      ([name, { dataType, dims }]) =>
        dataType === "float32" && dims.length > 0 && !statistics.has(name),
    )
    .map(([name]) => name)
    .filter((name) => name !== frozen && isWeight(original, name));
  const reached = reachedParameters(encoder, candidates, values);

  const isDomainSpecific =
    options.domainSpecificBatchNorm && batchNorms.length > 0;
  const isOfDomain = (name: string) => isDomainSpecific && affine.has(name);
  const shared = groupLayout(
    graph.initializers,
    reached.filter((name) => !isOfDomain(name)),
    isDomainSpecific ? [] : [...statistics],
  );
  const groups = new Map<Group, GroupLayout>([["shared", shared]]);
  if (isDomainSpecific)
    for (const domain of ["source", "target"] as const)
      groups.set(
        domain,
        groupLayout(graph.initializers, reached.filter(isOfDomain), [
          ...statistics,
        ]),
      );
  return { encoder, layout: { isDomainSpecific, groups, dimension } };
}

/** What was an initializer before constants were folded, or an Identity of one (exporters join equal weights). */
function isWeight({ graph }: Model, name: string): boolean {
  if (graph.initializers.has(name)) return true;
  const maker = graph.nodes.find(({ outputs }) => outputs[0] === name);
  return (
    maker?.opType === "Identity" && graph.initializers.has(maker.inputs[0])
  );
}

/** Whether a node is a batch normalization, whose statistics training replaces by the batch's. */
export function isBatchNormalization({ opType, domain }: Node): boolean {
  return opType === "BatchNormalization" && domain === "";
}

/** The group that holds a domain's running statistics. */
export function statisticsGroup(
  layout: ParameterLayout,
  domain: Domain,
): Group {
  return layout.isDomainSpecific ? domain : "shared";
}

function groupLayout(
  initializers: ReadonlyMap<string, Tensor>,
  trainedNames: readonly string[],
  statisticsNames: readonly string[],
): GroupLayout {
  const [trained, trainedSize] = places(initializers, trainedNames);
  const [statistics, statisticsSize] = places(initializers, statisticsNames);
  return { trained, trainedSize, statistics, statisticsSize };
}

function places(
  initializers: ReadonlyMap<string, Tensor>,
  names: readonly string[],
): [Place[], number] {
  let offset = 0;
  const placed = names.map((name) => {
    const tensor = initializers.get(name);
    assert(tensor !== undefined, `"${name}" is an initializer`);
    const place = { name, dims: tensor.dims, offset, size: tensor.data.length };
    offset += place.size;
    return place;
  });
  return [placed, offset];
}

function reachedParameters(
  { graph, opset }: Model,
  candidates: readonly string[],
  values: ReadonlyMap<string, KnownValue>,
): string[] {
  const builder = GraphBuilder.extending(graph);
  const feature = values.get(graph.outputs[0].name);
  assert(feature !== undefined, "the encoder's output has a shape");
  const g = new GradientBuilder(builder, opset, "reach");
  const loss = g.sum(feature, [0, 1]);
  const { gradients } = differentiate(
    { graph: builder.build(), opset },
    loss.name,
    candidates,
    new Map([...values, ...g.values]),
  );
  return candidates.filter((name) => gradients.has(name));
}

function requireEncoder({ graph }: Model): void {
  if (graph.inputs.length !== 1)
    throw new EncoderUntrainableError(
      "one input",
      `${graph.inputs.length} inputs`,
      "pass an encoder of one image batch",
    );
  if (graph.outputs.length !== 1)
    throw new EncoderUntrainableError(
      "one output",
      `${graph.outputs.length} outputs`,
      "name the feature's value with --feature-node",
    );
  const [{ name, dataType, dims }] = graph.inputs;
  if (dataType !== "float32" || dims.length !== 4)
    throw new EncoderUntrainableError(
      "float32 [batch, 3, H, W]",
      `input "${name}" ${dataType} [${dims.join(", ")}]`,
      "pass an encoder without preprocessing",
    );
}
