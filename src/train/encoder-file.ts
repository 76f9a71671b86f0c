import { readFile, stat } from "node:fs/promises";
import { basename } from "node:path";
import { ReidError } from "#core/errors";
import { readBundle, resolveBundle } from "#core/manifest";
import { checkGraph } from "#onnx/check";
import { foldConstants, withoutUnused } from "#onnx/folding";
import type { Dimension, Graph, Model, Node, ValueInfo } from "#onnx/graph";
import { readModel } from "#onnx/model";
import { inferShapes } from "#onnx/shapes";
import { encoderWithinBundle } from "./bundle-encoder.js";
import { encoders, isEncoderName } from "./encoders.js";
import {
  EncoderInputsError,
  EncoderNotFoundError,
  EncoderOutputError,
  EncoderSizeError,
  FeatureNodeNotFoundError,
} from "./errors.js";
import { takeWeights, type WeightReport } from "./weights.js";

/** Which encoder to open, and for what crops. */
export interface EncoderRequest {
  /** A built-in encoder's name, or the path of an .onnx file, a bundle, a run, or MODELS/NAME. */
  readonly encoder: string;
  /** Crop size; default the encoder's own. */
  readonly heightPx?: number | undefined;
  readonly widthPx?: number | undefined;
  /** Seed of fresh weights (built-in encoders). */
  readonly seed: number;
  /** Linear layer behind the pooling of a built-in encoder; 0 or left out: none. */
  readonly features?: number | undefined;
  /** Node or value of the file that is the feature, where it is not the only output. */
  readonly featureNode?: string | undefined;
  /** An .onnx file to take initial weights from. */
  readonly weights?: string | undefined;
}

/** An encoder that fits what training and export ask of one. */
export interface OpenedEncoder {
  /** float32 [batch, 3, H, W] to float32 [batch, D], one input, one output, not L2-normalized. */
  readonly model: Model;
  readonly heightPx: number;
  readonly widthPx: number;
  /** D. */
  readonly dimension: number;
  /** Whether weights came from a file. */
  readonly pretrained: boolean;
  /** What of the weights file was used. */
  readonly weights?: WeightReport;
}

/** An encoder with what the user knows it by. */
export interface NamedEncoder extends OpenedEncoder {
  /** The table's name, the file's without its folder, or a bundle's NAME/VERSION. */
  readonly name: string;
}

/** Where a file leaves its crop size open: the persons' size of spcl-spec 3. */
const DEFAULT_SIZE = { heightPx: 256, widthPx: 128 } as const;

/**
 * Opens a built-in encoder, any ONNX file with one image input and one feature output, or a bundle's encoder.
 *
 * @throws {EncoderNotFoundError}     neither a name nor a file nor a folder
 * @throws {BundleNotFoundError}      a folder that is no bundle, run or MODELS/NAME
 * @throws {ManifestError}            the bundle is broken
 * @throws {OnnxMalformedError}       not ONNX
 * @throws {EncoderInputsError}       not one image input
 * @throws {EncoderOutputError}       no feature output, or several
 * @throws {FeatureNodeNotFoundError} the feature node does not exist
 * @throws {EncoderSizeError}         crops of that size do not go through
 * @throws {WeightsUnmatchedError}    nothing of the weights file fits
 */
export async function openEncoder(
  request: EncoderRequest,
): Promise<NamedEncoder> {
  const opened = isEncoderName(request.encoder)
    ? { ...buildEncoder(request), name: request.encoder }
    : await readEncoder(request);
  if (request.weights === undefined) return opened;
  const { model, report } = takeWeights(
    opened.model,
    readModel(await readEncoderFile(request.weights)),
  );
  return { ...opened, model, pretrained: true, weights: report };
}

async function readEncoder(request: EncoderRequest): Promise<NamedEncoder> {
  const { encoder: path } = request;
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true) {
    const { encoder, manifest } = await readBundle(await resolveBundle(path));
    const name = `${manifest.name}/${manifest.version}`;
    return { ...encoderFromModel(readModel(encoder), request), name };
  }
  const bytes = await readEncoderFile(path, Object.keys(encoders));
  const name = basename(path);
  return { ...encoderFromModel(readModel(bytes), request), name };
}

/**
 * The bytes of an encoder file.
 *
 * @param names  what else the caller would have taken, for the message
 * @throws {EncoderNotFoundError} no such file
 */
export async function readEncoderFile(
  path: string,
  names: readonly string[] = [],
): Promise<Uint8Array> {
  return readFile(path).catch((error: unknown) => {
    const isMissing =
      error instanceof Error &&
      "code" in error &&
      ["ENOENT", "EISDIR", "ENOTDIR"].includes(String(error.code));
    if (isMissing) throw new EncoderNotFoundError(path, names);
    throw error;
  });
}

function buildEncoder(request: EncoderRequest): OpenedEncoder {
  if (!isEncoderName(request.encoder))
    throw new EncoderNotFoundError(request.encoder, Object.keys(encoders));
  const entry = encoders[request.encoder];
  const size = {
    heightPx: request.heightPx ?? entry.heightPx,
    widthPx: request.widthPx ?? entry.widthPx,
  };
  const features = request.features ?? 0;
  const model = entry.build({ ...size, seed: request.seed, features });
  try {
    checkGraph(model);
  } catch (cause) {
    throw new EncoderSizeError(size, reasonOf(cause), { cause });
  }
  return {
    model,
    ...size,
    dimension: features === 0 ? entry.dimension : features,
    pretrained: false,
  };
}

/**
 * Fits a model that was read from a file: cut at the feature node, batch opened, crop size set.
 *
 * The `encoder.onnx` of a bundle will do as well: its preprocessing and normalization are taken off.
 * Declared heights, widths and batch sizes are only what the exporter saw: they are replaced, and the shapes of the
 * whole graph found again.
 *
 * @throws as {@link openEncoder}, files apart
 */
export function encoderFromModel(
  original: Model,
  request: Pick<EncoderRequest, "heightPx" | "widthPx" | "featureNode">,
): OpenedEncoder {
  checkGraph(original);
  const inner = encoderWithinBundle(original) ?? original;
  const cut =
    request.featureNode === undefined
      ? inner
      : cutAt(inner, request.featureNode);
  const input = imageInput(cut.graph);
  const [, , height, width] = input.dims;
  const size = {
    heightPx:
      request.heightPx ??
      (typeof height === "number" ? height : DEFAULT_SIZE.heightPx),
    widthPx:
      request.widthPx ??
      (typeof width === "number" ? width : DEFAULT_SIZE.widthPx),
  };
  featureOutput(cut, inferShapes(cut));
  const dims: readonly Dimension[] = ["batch", 3, size.heightPx, size.widthPx];
  const open = withInput(cut, { ...input, dims });
  const model = withFeature(openBatch(open, input.dims[0], size));
  const dimension = Number(model.graph.outputs[0].dims[1]);
  return { model, ...size, dimension, pretrained: true };
}

/** Makes the value of that name, or the first output of the node of that name, the only output. */
function cutAt(model: Model, name: string): Model {
  const { graph } = model;
  const values = inferShapes(model);
  const byNode = graph.nodes.find((node) => node.name === name)?.outputs[0];
  const output =
    values.get(graph.initializers.has(name) ? "" : name) ??
    values.get(byNode ?? "");
  if (output === undefined) {
    const candidates = graph.nodes
      .filter(({ outputs }) => values.get(outputs[0])?.dims.length === 2)
      .map((node) => node.name);
    throw new FeatureNodeNotFoundError(name, candidates.slice(-5));
  }
  return { ...model, graph: pruned({ ...graph, outputs: [output] }) };
}

/** Without what the output does not need, inputs included. */
function pruned(graph: Graph): Graph {
  const rest = withoutUnused(graph);
  const used = new Set(rest.nodes.flatMap(({ inputs }) => inputs));
  return { ...rest, inputs: rest.inputs.filter(({ name }) => used.has(name)) };
}

const textOf = ({ name, dataType, dims }: ValueInfo): string =>
  `"${name}" ${dataType} [${dims.join(", ")}]`;

function imageInput({ inputs }: Graph): ValueInfo {
  if (inputs.length !== 1)
    throw new EncoderInputsError(
      inputs.length === 0
        ? "no input"
        : `${inputs.length} inputs ${inputs.map(textOf).join(" and ")}`,
    );
  const [input] = inputs;
  const [, channels] = input.dims;
  const fits =
    input.dataType === "float32" &&
    input.dims.length === 4 &&
    (channels === 3 || typeof channels === "string");
  if (!fits) throw new EncoderInputsError(`input ${textOf(input)}`);
  return input;
}

/** The one output, found to be [batch, D] or [batch, D, 1, 1]. */
function featureOutput(
  model: Model,
  values: ReadonlyMap<string, ValueInfo>,
): ValueInfo {
  const { outputs } = model.graph;
  if (outputs.length !== 1)
    throw new EncoderOutputError(
      `${outputs.length} outputs ${outputs.map(textOf).join(" and ")}`,
    );
  const output = values.get(outputs[0].name) ?? outputs[0];
  const [, dimension, ...rest] = output.dims;
  const fits =
    output.dataType === "float32" &&
    (output.dims.length === 2 || output.dims.length === 4) &&
    typeof dimension === "number" &&
    rest.every((dim) => dim === 1 || typeof dim === "string");
  if (!fits) throw new EncoderOutputError(`output ${textOf(output)}`);
  return output;
}

function withInput(model: Model, input: ValueInfo): Model {
  return { ...model, graph: { ...model.graph, inputs: [input] } };
}

/** Shapes with the batch open; a batch size that was written into Reshape targets is taken out of them. */
function openBatch(
  model: Model,
  declared: Dimension,
  size: { readonly heightPx: number; readonly widthPx: number },
): Model {
  let reason = "its feature does not keep the batch apart";
  for (const candidate of [model, withOpenReshapes(model, declared)]) {
    try {
      const values = inferShapes(foldConstants(withoutOutputShape(candidate)));
      const dims = values.get(candidate.graph.outputs[0].name)?.dims ?? [];
      const isFeature =
        dims[0] === "batch" &&
        typeof dims[1] === "number" &&
        dims.slice(2).every((dim) => dim === 1);
      if (isFeature)
        return {
          ...candidate,
          graph: {
            ...candidate.graph,
            outputs: [{ ...candidate.graph.outputs[0], dims }],
          },
        };
    } catch (error) {
      reason = reasonOf(error);
    }
  }
  throw new EncoderSizeError(size, reason);
}

/** The declared shape of the output belongs to the old crop size. */
function withoutOutputShape(model: Model): Model {
  const values = inferShapes(model);
  const outputs = model.graph.outputs.map(
    (output) => values.get(output.name) ?? output,
  );
  return { ...model, graph: { ...model.graph, outputs } };
}

function withOpenReshapes(model: Model, declared: Dimension): Model {
  if (typeof declared !== "number") return model;
  const initializers = new Map(model.graph.initializers);
  const written = new Map(initializers);
  for (const { opType, outputs, attributes } of model.graph.nodes)
    if (opType === "Constant" && attributes["value"]?.type === "tensor")
      written.set(outputs[0], attributes["value"].value);
  const nodes = model.graph.nodes.map((node): Node => {
    const target =
      node.opType === "Reshape" ? written.get(node.inputs[1]) : undefined;
    const [first, ...rest] = Array.from(target?.data ?? [], Number);
    if (first !== declared) return node;
    const open = [rest.includes(-1) ? 0 : -1, ...rest];
    const name = `${node.name}:open-batch`;
    initializers.set(name, {
      dataType: "int64",
      dims: [open.length],
      data: BigInt64Array.from(open, BigInt),
    });
    return { ...node, inputs: [node.inputs[0], name] };
  });
  return {
    ...model,
    graph: withoutUnused({ ...model.graph, initializers, nodes }),
  };
}

/** A feature [batch, D, 1, 1], as global pooling leaves it, is flattened. */
function withFeature(model: Model): Model {
  const [output] = model.graph.outputs;
  if (output.dims.length === 2) return model;
  const name = `${output.name}:flat`;
  const node: Node = {
    name,
    opType: "Flatten",
    domain: "",
    inputs: [output.name],
    outputs: [name],
    attributes: { axis: { type: "int", value: 1 } },
  };
  const outputs = [{ ...output, name, dims: output.dims.slice(0, 2) }];
  return {
    ...model,
    graph: { ...model.graph, nodes: [...model.graph.nodes, node], outputs },
  };
}

function reasonOf(error: unknown): string {
  if (error instanceof ReidError) return error.message.replace(/:[^:]*$/, "");
  throw error;
}
