import type { Command, OptionSpec } from "./command.js";

/** Every command and where it is read from; a command is loaded only when it is called. */
export const commands = {
  demo: () => import("./commands/demo.js"),
  synth: () => import("./commands/synth.js"),
  train: () => import("./commands/train.js"),
  eval: () => import("./commands/eval.js"),
  serve: () => import("./commands/serve.js"),
  embed: () => import("./commands/embed.js"),
  enroll: () => import("./commands/enroll.js"),
  search: () => import("./commands/search.js"),
  identify: () => import("./commands/identify.js"),
  models: () => import("./commands/models.js"),
  memory: () => import("./commands/memory.js"),
  index: () => import("./commands/index-command.js"),
  config: () => import("./commands/config.js"),
  token: () => import("./commands/token.js"),
} as const satisfies Readonly<
  Record<string, () => Promise<{ readonly command: Command }>>
>;

/** Flags that every command understands. */
export const commonOptions: Readonly<Record<string, OptionSpec>> = {
  help: { type: "boolean", short: "h", description: "show this help" },
  json: {
    type: "boolean",
    description: "print one JSON object on stdout, logs on stderr",
  },
  quiet: { type: "boolean", short: "q", description: "no progress, no story" },
};

/** Whether there is a command of that name. */
export function isCommandName(name: string): name is keyof typeof commands {
  return Object.hasOwn(commands, name);
}
