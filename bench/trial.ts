import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/**
 * Runs one trial in a process of its own and takes the JSON object on its last line.
 *
 * @param script  compiled file name beside this one
 * @param input   handed over as JSON, the first argument
 */
export async function runTrial<Result>(
  script: string,
  input: unknown,
): Promise<Result> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [path, JSON.stringify(input)],
    { maxBuffer: 1 << 26 },
  );
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Result;
}

/** What the trial was handed. */
export function trialInput<Input>(): Input {
  return JSON.parse(process.argv[2]) as Input;
}

/** Hands the trial's figures back. */
export function trialResult(result: unknown): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
