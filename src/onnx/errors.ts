import { ReidError } from "#core/errors";

/** Bytes that are not an ONNX model, or one that contradicts itself. */
export class OnnxMalformedError extends ReidError<{ what: string }> {
  readonly code = "ONNX_MALFORMED";
  readonly kind = "invalid-argument";

  constructor(what: string, options?: ErrorOptions) {
    super(
      `not a valid ONNX model, ${what}: pass an .onnx file as the exporter wrote it`,
      { what },
      options,
    );
  }
}

/** A part of the ONNX format that this project does not read, such as external data or subgraphs. */
export class OnnxUnsupportedError extends ReidError<{
  feature: string;
  where: string;
}> {
  readonly code = "ONNX_UNSUPPORTED";
  readonly kind = "unimplemented";

  constructor(feature: string, where: string, remedy: string) {
    super(`unsupported in ONNX, ${feature} (${where}): ${remedy}`, {
      feature,
      where,
    });
  }
}

/** An operator, or an operator set, that this project has no entry for. */
export class OperatorUnsupportedError extends ReidError<{
  op: string;
  opset: number;
  node: string;
}> {
  readonly code = "OPERATOR_UNSUPPORTED";
  readonly kind = "unimplemented";

  constructor(op: string, opset: number, node: string, known: string) {
    super(
      `unsupported operator ${op} (opset ${opset}) at node "${node}": export the encoder with ${known}`,
      { op, opset, node },
    );
  }
}

/** A graph whose nodes, names, types or shapes do not fit together. */
export class GraphInvalidError extends ReidError<{
  node: string;
  what: string;
}> {
  readonly code = "GRAPH_INVALID";
  readonly kind = "invalid-argument";

  constructor(node: string, what: string, options?: ErrorOptions) {
    super(
      `invalid graph at "${node}", ${what}: export the model again, or report it if it came from here`,
      { node, what },
      options,
    );
  }
}
