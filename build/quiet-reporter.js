/**
 * A reporter for `node --test` that is quiet when all is well: failures in full, and of a file that failed as a
 * process how it ended and what it said last; skipped tests with their reason, a line a minute to show life, and
 * the runner's own closing lines. With REID_FAILED_CASES=last a line for each failed test ends it all.
 */
export default async function* quietReporter(events) {
  const started = performance.now();
  let shown = started;
  let passed = 0;
  const skipped = [];
  const failed = [];
  const saidBy = new Map();
  for await (const { type, data } of events) {
    if (type === "test:pass") {
      passed += 1;
      if (typeof data.skip === "string" || data.skip === true)
        skipped.push(
          `${data.name}${typeof data.skip === "string" ? `: ${data.skip}` : ""}`,
        );
      if (performance.now() - shown > 60_000) {
        shown = performance.now();
        yield `${passed} passed after ${Math.round((shown - started) / 1000)} s\n`;
      }
    }
    if (type === "test:fail") {
      if (!isOnlyParent(data)) failed.push(data.name);
      yield failureText(data, saidBy.get(data.file) ?? "");
    }
    if (type === "test:stderr") {
      const said = (saidBy.get(data.file) ?? "") + data.message;
      saidBy.set(data.file, said.slice(-lastCharacters));
      if (process.env.REID_TEST_STDERR) yield data.message;
    }
    if (type === "test:diagnostic" && late.test(data.message))
      yield `\n${data.message}\n`;
    if (
      type === "test:diagnostic" &&
      data.nesting === 0 &&
      closing.test(data.message)
    ) {
      if (skipped.length > 0) {
        yield `skipped:\n${skipped.map((line) => `  ${line}\n`).join("")}`;
        skipped.length = 0;
      }
      yield `# ${data.message}\n`;
    }
  }
  if (process.env.REID_FAILED_CASES === "last")
    for (const name of failed) yield `failed: ${name}\n`;
}

const closing = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /;

/** Of what a test file wrote to stderr, shown where its process failed. */
const lastCharacters = 4000;

/** What the runner says of an error that came when its test was over: it fails the file. */
const late = /asynchronous activity/;

/** A suite that failed because a test in it did. */
function isOnlyParent(data) {
  return data.details?.error?.failureType === "subtestsFailed";
}

function failureText(data, said) {
  const error = data.details?.error;
  const cause = error?.cause ?? error;
  if (isOnlyParent(data)) return "";
  const where = data.file ? `${data.file}:${data.line ?? 1}` : "";
  const text = cause?.stack ?? cause?.message ?? String(cause);
  return `\nFAILED ${data.name}  ${where}\n${text}\n${endOf(error, said)}`;
}

/** How the process of a test file ended, where that is its failure; else nothing. */
function endOf(error, said) {
  const { exitCode, signal } = error ?? {};
  if (exitCode == null && signal == null) return "";
  const end = signal == null ? `exit code ${exitCode}` : `signal ${signal}`;
  return `its process ended with ${end}\n${said}\n`;
}
