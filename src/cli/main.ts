#!/usr/bin/env node
import { type ParseArgsConfig, parseArgs } from "node:util";
import { systemClock } from "#core/clock";
import { ReidError } from "#core/errors";
import {
  type Command,
  FailedRun,
  type OptionSpec,
  UsageError,
} from "./command.js";
import { commands, commonOptions, isCommandName } from "./commands.js";
import { Output, exitCodes } from "./output.js";

/** Runs one command line and tells the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const out = new Output({
    stdout: process.stdout,
    stderr: process.stderr,
    json: args.includes("--json"),
    quiet: args.includes("--quiet") || args.includes("-q"),
    clock: systemClock,
  });
  const abort = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.once(name, () => abort.abort(new InterruptedError(name)));
  try {
    return await dispatch(args, out, abort.signal);
  } catch (error) {
    return out.failure(error);
  }
}

/** The user asked the command to stop. */
class InterruptedError extends ReidError<{ signal: string }> {
  readonly code = "INTERRUPTED";
  readonly kind = "cancelled";

  constructor(signal: string) {
    super(`stopped by ${signal}: start it again to go on`, { signal });
  }
}

async function dispatch(
  args: readonly string[],
  out: Output,
  signal: AbortSignal,
): Promise<number> {
  const [name, ...rest] = args;
  if (
    name === undefined ||
    name === "help" ||
    name === "--help" ||
    name === "-h"
  ) {
    out.raw(await overview());
    return name === undefined ? exitCodes.usage : exitCodes.success;
  }
  if (!isCommandName(name))
    throw new UsageError(
      `there is no command "${name}": one of ${Object.keys(commands).join(", ")}`,
      name,
    );
  let { command }: { readonly command: Command } = await commands[name]();
  let path = command.name;
  const { subcommands } = command;
  if (subcommands !== undefined && Object.hasOwn(subcommands, rest[0] ?? "")) {
    command = subcommands[rest.shift() ?? ""];
    path = `${path} ${command.name}`;
  }
  const options = { ...command.options, ...commonOptions };
  const { values, positionals } = parse(rest, options);
  if (values.help === true) {
    out.raw(helpText(path, command, options));
    return exitCodes.success;
  }
  if (command.run === undefined)
    throw new UsageError(
      `reid ${path} needs one of ${Object.keys(command.subcommands ?? {}).join(", ")}: see reid ${path} --help`,
      rest[0] ?? "",
    );
  if (command.takesPaths !== true && positionals.length > 0)
    throw new UsageError(
      `reid ${path} takes no "${positionals[0]}", only flags: see reid ${path} --help`,
      positionals[0],
    );
  const result = await command.run({
    flags: values,
    positionals,
    out,
    signal,
    environment: process.env,
    clock: systemClock,
  });
  if (result instanceof FailedRun)
    return out.failure(result.error, result.result);
  if (result !== undefined) out.result(result);
  return exitCodes.success;
}

function parse(
  args: readonly string[],
  options: Readonly<Record<string, OptionSpec>>,
) {
  const config: ParseArgsConfig["options"] = Object.fromEntries(
    Object.entries(options).map(([flag, spec]) => [
      flag,
      {
        type: spec.type,
        ...(spec.short === undefined ? {} : { short: spec.short }),
        ...(spec.default === undefined ? {} : { default: spec.default }),
        multiple: spec.multiple ?? false,
      },
    ]),
  );
  try {
    return parseArgs({
      args: [...args],
      options: config,
      allowPositionals: true,
      strict: true,
    });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${text.split(". ")[0]}: see --help`, args.join(" "));
  }
}

async function overview(): Promise<string> {
  const lines = await Promise.all(
    Object.values(commands).map(async (load) => {
      const { command }: { readonly command: Command } = await load();
      return `  ${command.name.padEnd(8)} ${command.summary}`;
    }),
  );
  return [
    "reid: a self-adapting re-identification service",
    "",
    "usage: reid COMMAND [flags]",
    "",
    ...lines,
    "",
    "reid COMMAND --help tells the flags of one. Exit codes: 0 success, 1 failure, 2 bad usage.",
    "",
  ].join("\n");
}

function helpText(
  path: string,
  command: Command,
  options: Readonly<Record<string, OptionSpec>>,
): string {
  const flags = Object.entries(options).map(([flag, spec]) => {
    const short = spec.short === undefined ? "" : `-${spec.short}, `;
    const value =
      spec.type === "string" ? ` ${spec.placeholder ?? "VALUE"}` : "";
    const fallback =
      typeof spec.default === "string" && spec.default !== ""
        ? ` (default ${spec.default})`
        : "";
    return `  ${`${short}--${flag}${value}`.padEnd(34)} ${spec.description}${fallback}`;
  });
  const groups = Object.values(command.subcommands ?? {}).map(
    (sub) => `  ${sub.name.padEnd(12)} ${sub.summary}`,
  );
  return [
    `${command.summary}`,
    "",
    `usage: reid ${path} ${command.usage}`.trimEnd(),
    "",
    ...(groups.length > 0 ? [...groups, ""] : []),
    ...flags,
    "",
  ].join("\n");
}

// Where stderr is a file on a full disk, what cannot be said is lost, and the work goes on.
process.stderr.on("error", () => undefined);
process.exitCode = await main(process.argv.slice(2));
