import jsdoc from "eslint-plugin-jsdoc";
import tseslint from "typescript-eslint";
import { roomRules } from "./build/lint/rooms.js";

const noHiddenInputs = [
  {
    object: "Date",
    property: "now",
    message: "Time is passed in: take a Clock (core/clock.ts).",
  },
  {
    object: "Math",
    property: "random",
    message: "Randomness is passed in: take a RandomStream (core/random.ts).",
  },
  {
    object: "process",
    property: "env",
    message: "The environment is read in core/config.ts and cli/main.ts only.",
  },
  {
    object: "process",
    property: "exit",
    message: "Only cli/main.ts ends the process.",
  },
];

export default tseslint.config(
  { ignores: ["dist/", "out/", "node_modules/", "**/generated/"] },
  {
    files: ["**/*.ts"],
    languageOptions: {
      parser: tseslint.parser,
      parserOptions: {
        projectService: true,
        tsconfigRootDir: import.meta.dirname,
      },
    },
    plugins: { jsdoc, "@typescript-eslint": tseslint.plugin },
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-floating-promises": [
        "error",
        // node:test's own functions return promises that the runner awaits.
        {
          allowForKnownSafeCalls: [
            {
              from: "package",
              name: ["test", "describe", "it", "suite"],
              package: "node:test",
            },
          ],
        },
      ],
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/no-non-null-assertion": "error",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/consistent-type-imports": "error",
    },
  },
  ...roomRules(),
  {
    files: ["src/**/*.ts"],
    rules: {
      "max-lines": [
        "error",
        { max: 500, skipBlankLines: true, skipComments: true },
      ],
      "max-depth": ["error", 4],
      "max-params": ["error", 4],
      "no-warning-comments": [
        "error",
        { terms: ["todo", "fixme", "xxx", "hack"] },
      ],
      "jsdoc/require-jsdoc": [
        "error",
        {
          publicOnly: true,
          require: { FunctionDeclaration: true, ClassDeclaration: true },
          contexts: ["TSInterfaceDeclaration", "TSTypeAliasDeclaration"],
        },
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: 'ThrowStatement > NewExpression[callee.name="Error"]',
          message:
            "Throw a ReidError with a code, or assert(): a bare Error says neither.",
        },
        {
          selector: "ExportDefaultDeclaration",
          message:
            "Named exports only: a name that is the same everywhere can be searched for.",
        },
      ],
      "no-restricted-properties": ["error", ...noHiddenInputs],
    },
  },
  {
    files: ["src/core/**/*.ts", "src/cli/main.ts"],
    rules: { "no-restricted-properties": "off" },
  },
);
