import { describe, test } from "node:test";
import { float, int } from "#onnx/builder";
import { type ActivationOp, activationRules } from "#train/autodiff/activation";

import {
  checkGradient,
  type GradientCase,
} from "../../support/gradient-check.js";

const apart = { dims: [2, 3, 4], values: "apart" } as const;
const plain = (
  attributes: GradientCase["attributes"] = {},
  title = "defaults",
): GradientCase => ({
  title,
  inputs: [apart],
  outputs: [[2, 3, 4]],
  attributes,
});
const alpha = plain({ alpha: float(0.3) }, "alpha 0.3");
const wide = { dims: [12, 4, 5], values: "apart" } as const;

const cases: Readonly<Record<ActivationOp, readonly GradientCase[]>> = {
  Relu: [plain()],
  LeakyRelu: [plain(), alpha],
  PRelu: [
    {
      title: "slope a channel",
      inputs: [apart, { dims: [3, 1] }],
      outputs: [[2, 3, 4]],
    },
    {
      title: "slope of the same shape",
      inputs: [apart, { dims: [2, 3, 4] }],
      outputs: [[2, 3, 4]],
    },
  ],
  Elu: [plain(), alpha],
  Selu: [
    plain(),
    plain({ alpha: float(1.2), gamma: float(0.9) }, "alpha and gamma"),
  ],
  Celu: [plain(), alpha],
  ThresholdedRelu: [alpha],
  Sigmoid: [plain()],
  HardSigmoid: [
    plain(),
    plain({ alpha: float(1), beta: float(0.45) }, "alpha and beta"),
  ],
  HardSwish: [
    { title: "all three pieces", inputs: [wide], outputs: [[12, 4, 5]] },
  ],
  Tanh: [plain()],
  Softplus: [plain()],
  Softsign: [plain()],
  Softmax: [plain(), plain({ axis: int(1) }, "axis 1")],
  LogSoftmax: [plain(), plain({ axis: int(0) }, "axis 0")],
};

describe("gradients of activation operators equal central differences", () => {
  for (const opType of Object.keys(activationRules) as ActivationOp[])
    for (const gradientCase of cases[opType])
      test(`${opType}: ${gradientCase.title}`, () =>
        checkGradient(opType, gradientCase));
});
