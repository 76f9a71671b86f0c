import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const src = fileURLToPath(new URL("../../src/", import.meta.url));

/** Modules of src by path, with the modules each imports, types included; generated code is left out. */
async function importsByModule(): Promise<ReadonlyMap<string, string[]>> {
  const paths = (await readdir(src, { recursive: true }))
    .filter((path) => path.endsWith(".ts") && !path.includes("generated"))
    .sort();
  const modules = new Map<string, string[]>();
  for (const path of paths) {
    const text = await readFile(join(src, path), "utf8");
    const imported = [...text.matchAll(/\bfrom "([#.][^"]+)"/g)].map(
      ([, name]) =>
        name.startsWith("#")
          ? `${name.slice(1)}.ts`
          : normalize(join(dirname(path), name)).replace(/\.js$/, ".ts"),
    );
    modules.set(
      path,
      imported.filter((name) => paths.includes(name)),
    );
  }
  return modules;
}

/** The first chain of imports that comes back to where it began. */
function circleIn(
  modules: ReadonlyMap<string, readonly string[]>,
): readonly string[] | undefined {
  const isDone = new Set<string>();
  const walk = (
    module: string,
    chain: readonly string[],
  ): readonly string[] | undefined => {
    const start = chain.indexOf(module);
    if (start >= 0) return [...chain.slice(start), module];
    if (isDone.has(module)) return undefined;
    for (const next of modules.get(module) ?? []) {
      const circle = walk(next, [...chain, module]);
      if (circle !== undefined) return circle;
    }
    isDone.add(module);
    return undefined;
  };
  for (const module of modules.keys()) {
    const circle = walk(module, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

describe("imports", () => {
  test("never come back to the module they began at, types included", async () => {
    const modules = await importsByModule();
    assert.ok(modules.size > 200, `${modules.size} modules`);
    const circle = circleIn(modules);
    assert.equal(circle, undefined, circle?.join(" → "));
  });

  test("are found to come back where they do", () => {
    const modules = new Map([
      ["a", ["b"]],
      ["b", ["c", "d"]],
      ["c", []],
      ["d", ["b"]],
    ]);
    assert.deepEqual(circleIn(modules), ["b", "d", "b"]);
  });
});
