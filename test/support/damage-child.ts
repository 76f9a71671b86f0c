// Started by the damage tests as a process of its own, since a damaged store may end it: opens damaged copies of a data
// folder one after another, and says of each what came of it, one line each.
//
//   node damage-child.js SOUND_FOLDER SCRATCH_FOLDER < damages, one JSON object a line
import { writeSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { isDeepStrictEqual } from "node:util";

import { ReidError } from "#core/errors";

import { applyDamage, type Damage, type Outcome } from "./damage.js";
import { contentOf, openFolder, type Content } from "./damage-content.js";

const [sound, scratch] = process.argv.slice(2);

const before = await sane();
const damages = (await text(process.stdin))
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => JSON.parse(line) as Damage);
for (const damage of damages) {
  // What is begun is said first: who is ended by it is known by name.
  say({ begun: damage });
  say(await outcomeOf(damage));
}

function say(line: object): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

/** The sound folder's content, by the same way. */
async function sane(): Promise<Content> {
  await cp(sound, scratch, { recursive: true });
  const open = await openFolder(scratch);
  const content = await contentOf(open);
  await open.close();
  return content;
}

async function outcomeOf(damage: Damage): Promise<Outcome> {
  await rm(scratch, { recursive: true });
  await cp(sound, scratch, { recursive: true });
  await applyDamage(scratch, damage);
  let open;
  try {
    open = await openFolder(scratch);
  } catch (error) {
    return failureOf("refused", error, []);
  }
  const { lines } = open;
  try {
    const found = await contentOf(open);
    if (found.problems.length > 0)
      return { was: "told", code: "", message: found.problems[0], lines };
    const was = isDeepStrictEqual(found, before)
      ? "same"
      : isDeepStrictEqual(placesOf(found), placesOf(before))
        ? "changed"
        : "lost";
    return { was, code: "", message: "", lines };
  } catch (error) {
    return failureOf("told", error, lines);
  } finally {
    // Whatever it says, the next one has a folder of its own.
    await open.close().catch(() => undefined);
  }
}

/** An entry is where its gallery has its sequence; its id is a value as its identity is. */
function placesOf({ ids }: Content): readonly unknown[] {
  return ids.map(([gallery, , sequence]) => [gallery, sequence]);
}

function failureOf(
  was: "refused" | "told",
  error: unknown,
  lines: readonly string[],
): Outcome {
  if (error instanceof ReidError)
    return { was, code: error.code, message: error.message, lines };
  const trace = error instanceof Error ? error.stack : undefined;
  return { was, code: "NONE", message: trace ?? String(error), lines };
}
