/**
 * Lists the licence of every installed dependency and fails on one that is not compatible with Apache-2.0.
 * LGPL is allowed for libraries that ship as separate shared objects (libvips).
 */
import { readFileSync } from "node:fs";

const compatible = [
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "CC-BY-4.0",
  "CC-BY-3.0",
  "CC0-1.0",
  "ISC",
  "MIT",
  "MIT-0",
  "Python-2.0",
  "Unlicense",
];
const separateObjects = /^@img\/sharp-libvips-/;

const lock = JSON.parse(
  readFileSync(new URL("../package-lock.json", import.meta.url), "utf8"),
);
const rows = Object.entries(lock.packages)
  .filter(([path]) => path.startsWith("node_modules/"))
  .map(([path, facts]) => ({
    name: path.replace(/^.*node_modules\//, ""),
    version: facts.version,
    licence: facts.license ?? licenceOf(path),
    use: facts.dev ? "development" : facts.optional ? "platform" : "product",
  }));

/** For packages whose lock entry carries none. */
function licenceOf(path) {
  try {
    const facts = JSON.parse(
      readFileSync(new URL(`../${path}/package.json`, import.meta.url), "utf8"),
    );
    return (
      facts.license ??
      facts.licenses?.map(({ type }) => type).join(" OR ") ??
      "none"
    );
  } catch {
    return "not installed here";
  }
}

/** An SPDX expression: one alternative of OR, and every part of AND, has to be compatible. */
function isCompatible({ name, licence }) {
  if (separateObjects.test(name) && /LGPL/.test(licence)) return true;
  return licence
    .replace(/[()]/g, "")
    .split(" OR ")
    .some((alternative) =>
      alternative
        .split(" AND ")
        .every(
          (part) =>
            compatible.includes(part.trim()) ||
            (separateObjects.test(name) && /LGPL/.test(part)) ||
            (/^@img\/sharp-/.test(name) && /LGPL/.test(part)),
        ),
    );
}

const refused = rows.filter(
  (row) => row.licence !== "not installed here" && !isCompatible(row),
);
const counts = new Map();
for (const { licence } of rows)
  counts.set(licence, (counts.get(licence) ?? 0) + 1);
for (const { name, version, licence, use } of rows)
  console.log(`${name}@${version}`.padEnd(56), licence.padEnd(28), use);
console.log();
for (const [licence, count] of [...counts].sort((a, b) => b[1] - a[1]))
  console.log(String(count).padStart(4), licence);
console.log(
  "system libraries: libfaiss (MIT), OpenBLAS (BSD-3-Clause), libgomp (GPL-3.0 with the runtime library exception)",
);
if (refused.length > 0) {
  for (const { name, licence } of refused)
    console.error(`not compatible: ${name} (${licence})`);
  process.exitCode = 1;
}
