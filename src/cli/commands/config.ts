import { configKeys, loadConfig, treeFromConfig } from "#core/config";
import { textFlag, type Command, type JsonObject } from "../command.js";

/** `reid config`: what a file and the defaults come to. */
export const command: Command = {
  name: "config",
  summary: "print the effective configuration",
  usage: "[--config FILE] [--keys]",
  options: {
    config: {
      type: "string",
      description: "YAML file; default the one REID_CONFIG names",
      placeholder: "FILE",
    },
    keys: {
      type: "boolean",
      description: "every key with default, range and unit instead",
    },
  },
  async run({ flags, out, environment }): Promise<JsonObject> {
    if (flags["keys"] === true) {
      const keys = configKeys();
      for (const { path, default: value, expected, unit, description } of keys)
        out.line(
          `${path}: ${value === undefined ? "(unset)" : JSON.stringify(value)}  # ${expected}` +
            `${unit === "" ? "" : `, ${unit}`}; ${description}`,
        );
      return { keys: keys.map((key) => ({ ...key })) };
    }
    const file = textFlag(flags, "config");
    const tree = treeFromConfig(await loadConfig({ file, environment }));
    for (const line of yamlLines(tree, "")) out.line(line);
    return tree as JsonObject;
  },
};

/** The tree as YAML that `--config` reads back: sections, and values as JSON, which YAML contains. */
function yamlLines(
  tree: Readonly<Record<string, unknown>>,
  indent: string,
): string[] {
  return Object.entries(tree).flatMap(([key, value]) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      return value === undefined
        ? []
        : [`${indent}${key}: ${JSON.stringify(value)}`];
    const below = yamlLines(value as Record<string, unknown>, `${indent}  `);
    return below.length === 0 ? [] : [`${indent}${key}:`, ...below];
  });
}
