import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import {
  access,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Command, OptionSpec } from "#cli/command";
import { commands, commonOptions } from "#cli/commands";
import { configKeys, loadConfig } from "#core/config";
import { instruments } from "#core/instruments";
import { prometheusName } from "#core/prometheus";
import { operators } from "#onnx/operators";
import { rpcNames, rpcs, type RpcName } from "#serve/rpcs";
import { gradientRules } from "#train/autodiff";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => readFile(join(root, path), "utf8");

/** The rows of a page's tables whose first cell is code, cell by cell. */
function codeRows(text: string): readonly (readonly string[])[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

/** What stands between the fences of a page's code blocks of one language. */
function codeBlocks(text: string, language: string): readonly string[] {
  const blocks = new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...text.matchAll(blocks)].map(([, block]) => block);
}

/** Every error class's code with its kind, and the codes that the client gives; read from the sources. */
async function codesInSource(): Promise<ReadonlyMap<string, Set<string>>> {
  const codes = new Map<string, Set<string>>();
  const note = (code: string, kind: string) =>
    codes.set(code, (codes.get(code) ?? new Set()).add(kind));
  const names = await readdir(join(root, "src"), { recursive: true });
  for (const name of names.filter((one) => one.endsWith(".ts"))) {
    if (name.includes("generated")) continue;
    const text = await read(join("src", name));
    const classes =
      /readonly code = "([A-Z_0-9]+)";\s*readonly kind = "([a-z-]+)"/g;
    for (const [, code, kind] of text.matchAll(classes)) note(code, kind);
  }
  note("SERVER_UNREACHABLE", "unavailable");
  note("CALL_FAILED", "internal");
  return codes;
}

describe("docs/errors.md", () => {
  test("has a heading for every error code, with its status, and no other", async () => {
    const text = await read("docs/errors.md");
    const headed = text
      .split(/^### /m)
      .slice(1)
      .map(
        (section) =>
          [section.slice(0, section.indexOf("\n")), section] as const,
      );
    const sections = new Map(headed);
    const codes = await codesInSource();
    // Of the sections themselves: a second one of the same code would hide behind the first.
    assert.deepEqual(
      headed.map(([code]) => code).sort(),
      [...codes.keys()].sort(),
    );
    for (const [code, kinds] of codes) {
      const status = /Status: `([A-Z_]+)`/.exec(sections.get(code) ?? "")?.[1];
      const kind = (status ?? "").toLowerCase().replaceAll("_", "-");
      assert.ok(
        kinds.has(kind),
        `${code} is ${[...kinds].join()}, not ${kind}`,
      );
      assert.match(sections.get(code) ?? "", /What to do: /, code);
    }
  });

  test("covers every code: each class states its kind right behind it", async () => {
    const codes = await codesInSource();
    const names = await readdir(join(root, "src"), { recursive: true });
    for (const name of names.filter((one) => one.endsWith(".ts"))) {
      const text = await read(join("src", name));
      for (const [, code] of text.matchAll(/readonly code = "([A-Z_0-9]+)"/g))
        assert.ok(codes.has(code), `${code} in src/${name}`);
    }
  });
});

describe("build/licences.js", () => {
  test("lists every dependency's licence and finds none that is not compatible", () => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(root, "build/licences.js")],
      { encoding: "utf8" },
    );
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^lmdb@\S+ +MIT +product$/m);
  });
});

describe("Dockerfile", () => {
  test("builds by steps of build/setup.sh alone, copies what is there, and serves without root", async () => {
    const [build, image] = (await read("Dockerfile"))
      .split(/^FROM .*$/m)
      .slice(1);
    const steps = [...build.matchAll(/^RUN build\/setup\.sh (\w+)/gm)].map(
      ([, step]) => step,
    );
    assert.deepEqual(steps, ["packages", "npm", "addon", "compile"]);
    const script = await read("build/setup.sh");
    for (const step of steps)
      assert.match(script, new RegExp(`^  ${step}\\) `, "m"));
    for (const [, sources] of build.matchAll(/^COPY (.*) \S+$/gm))
      for (const source of sources.split(" ")) await stat(join(root, source));
    assert.match(image, /^USER node$/m);
    assert.match(image, /^CMD \["serve", /m);
  });
});

describe("docs/api.md", () => {
  test("lists every RPC once, where it belongs, with what to use instead", async () => {
    const text = await read("docs/api.md");
    const [served, unserved] = text.split("## Not served");
    for (const name of rpcNames) {
      const { unsupported } = rpcs[name];
      const row = `| \`${name}\` |`;
      const [here, there] =
        unsupported === undefined ? [served, unserved] : [unserved, served];
      assert.equal(here.split(row).length, 2, name);
      assert.ok(!there.includes(row), name);
      assert.ok(here.includes(unsupported ?? row), name);
    }
  });

  test("and the table of RPCs agree with the .proto files on role and deadline", async () => {
    const seen: RpcName[] = [];
    for (const file of await readdir(join(root, "proto/reid/v1"))) {
      const text = await read(join("proto/reid/v1", file));
      const service = /^service (\w+) \{([\s\S]*?)^\}/m.exec(text);
      if (service === null) continue;
      for (const [, comment, method] of service[2].matchAll(
        /((?: *\/\/.*\n)+) *rpc (\w+)\(/g,
      )) {
        const wanted: string = `${service[1]}/${method}`;
        const name: RpcName | undefined = rpcNames.find(
          (one) => one === wanted,
        );
        assert.ok(name !== undefined, method);
        seen.push(name);
        const words = comment.replaceAll(/\n *\/\/ /g, " ");
        assert.equal(/Role: (\w+)/.exec(words)?.[1], rpcs[name].role, name);
        const seconds = /deadline (\d+) s where/.exec(words)?.[1];
        const deadlineMs =
          seconds === undefined ? undefined : Number(seconds) * 1000;
        assert.equal(rpcs[name].deadlineMs, deadlineMs, name);
      }
    }
    assert.deepEqual(seen.sort(), [...rpcNames].sort());
  });
});

describe("docs/operators.md", () => {
  test("has a row for every operator and every gradient rule, and no other", async () => {
    const rows = codeRows(await read("docs/operators.md"));
    const names = rows.map(([name]) => name.split("`")[1]);
    const known = new Set([
      ...Object.keys(operators),
      ...Object.keys(gradientRules),
    ]);
    assert.deepEqual(names.sort(), [...known].sort());
  });

  test("gives a gradient where there is a rule and nowhere else", async () => {
    for (const [name, result, gradient] of codeRows(
      await read("docs/operators.md"),
    )) {
      const has = Object.hasOwn(gradientRules, name.split("`")[1]);
      assert.equal(gradient !== "–", has, name);
      assert.ok(result !== "" && gradient !== "", name);
    }
  });

  test("gives the operator set that an operator came with, where later than 13", async () => {
    const said = codeRows(await read("docs/operators.md"))
      .map(([name]) => /^`(\w+)` \((\d+)\)$/.exec(name))
      .flatMap((found) => (found ? [[found[1], Number(found[2])]] : []));
    const known = Object.entries(operators).flatMap(([name, { since }]) =>
      since === undefined ? [] : [[name, since]],
    );
    assert.deepEqual(said.sort(), known.sort());
  });
});

describe("docs/autodiff-from-scratch.md", () => {
  test("is a program whose gradients agree with central differences", async () => {
    const text = await read("docs/autodiff-from-scratch.md");
    const [command] = codeBlocks(text, "sh");
    const { stdout } = await promisify(execFile)("sh", ["-c", command], {
      cwd: root,
    });
    assert.equal(stdout.match(/by the rules.*by differences/g)?.length, 4);
    assert.match(stdout, /after 200 iterations/);
  });
});

describe("docs/config.md", () => {
  test("lists every key with default, range and unit, in the schema's order, and no other", async () => {
    const rows = codeRows(await read("docs/config.md"));
    assert.deepEqual(
      rows.map((row) => row.slice(0, 4)),
      configKeys().map(({ path, default: value, expected, unit }) => [
        `\`${path}\``,
        value === undefined ? "unset" : `\`${JSON.stringify(value)}\``,
        expected,
        unit,
      ]),
    );
    for (const [key, , , , meaning] of rows) assert.ok(meaning, key);
  });

  test("shows a file that can be read", async () => {
    const folder = await mkdtemp(join(tmpdir(), "config-"));
    try {
      const file = join(folder, "reid.yaml");
      const [example] = codeBlocks(await read("docs/config.md"), "yaml");
      await writeFile(file, example);
      const config = await loadConfig({ file });
      assert.equal(config.device, "cpu");
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe("docs/metrics.md", () => {
  test("lists every instrument with its name in a scrape, kind, unit and labels, and no other", async () => {
    const rows = codeRows(await read("docs/metrics.md"));
    const listed = rows.filter((row) => row.length === 6);
    const known = Object.entries(instruments).map(([name, spec]) => [
      `\`${name}\``,
      `\`${prometheusName({ name, ...spec })}\``,
      spec.kind,
      spec.unit,
      spec.attributes.map((label) => `\`${label}\``).join(", "),
    ]);
    assert.deepEqual(listed.map((row) => row.slice(0, 5)).sort(), known.sort());
    for (const row of listed) assert.ok(row[5], row[0]);
  });

  test("gives every histogram's buckets", async () => {
    const rows = codeRows(await read("docs/metrics.md"));
    const said = rows
      .filter((row) => row.length === 2)
      .flatMap(([names, bounds]) =>
        names.split(", ").map((name) => [name, bounds]),
      );
    const known = Object.entries(instruments).flatMap(([name, { buckets }]) =>
      buckets === undefined ? [] : [[`\`${name}\``, buckets.join(" ")]],
    );
    assert.deepEqual(said.sort(), known.sort());
  });
});

/** Every command and subcommand by what is typed for it. */
async function allCommands(): Promise<ReadonlyMap<string, Command>> {
  const found = new Map<string, Command>();
  for (const load of Object.values(commands)) {
    const { command }: { readonly command: Command } = await load();
    found.set(command.name, command);
    for (const sub of Object.values(command.subcommands ?? {}))
      found.set(`${command.name} ${sub.name}`, sub);
  }
  return found;
}

/** A flag as the page's first column writes it. */
function flagCell(
  name: string,
  { short, type, placeholder }: OptionSpec,
): string {
  const value = type === "string" ? ` ${placeholder ?? "VALUE"}` : "";
  return `${short === undefined ? "" : `\`-${short}\`, `}\`--${name}${value}\``.replaceAll(
    "|",
    "\\|",
  );
}

/** Asserts that a section's table has these flags, with their defaults. */
function assertFlags(
  section: string,
  options: Readonly<Record<string, OptionSpec>>,
): void {
  const rows = codeRows(section).filter((row) => row[0].includes("-"));
  assert.deepEqual(
    rows.map(([flag]) => flag),
    Object.entries(options).map(([name, spec]) => flagCell(name, spec)),
  );
  Object.values(options).forEach((spec, i) => {
    const [flag, fallback, unit, meaning] = rows[i];
    if (typeof spec.default === "string")
      assert.equal(fallback, `\`${spec.default}\``, flag);
    assert.ok(fallback !== "" && meaning !== "", flag);
    if (spec.type === "string") assert.notEqual(unit, "", `unit of ${flag}`);
  });
}

describe("docs/cli.md", () => {
  const sectionsOf = (text: string) =>
    new Map(
      text
        .split(/^#{2,3} (?=reid )/m)
        .slice(1)
        .map((section) => [section.slice(5, section.indexOf("\n")), section]),
    );

  test("has a section for every command and subcommand, in the order of --help, and no other", async () => {
    const sections = sectionsOf(await read("docs/cli.md"));
    assert.deepEqual([...sections.keys()], [...(await allCommands()).keys()]);
  });

  test("lists every flag of every command with its default and unit, and no other", async () => {
    const text = await read("docs/cli.md");
    assertFlags(text.slice(0, text.indexOf("\n## reid ")), commonOptions);
    const sections = sectionsOf(text);
    for (const [name, { options }] of await allCommands())
      assertFlags(sections.get(name) ?? "", options);
  });

  test("tells usage, exit codes and --json of every command that runs", async () => {
    const sections = sectionsOf(await read("docs/cli.md"));
    for (const [name, command] of await allCommands()) {
      if (command.run === undefined) continue;
      const section = sections.get(name) ?? "";
      assert.ok(section.includes(`\`reid ${name} ${command.usage}\``), name);
      assert.match(section, /^Exit codes: /m, name);
      assert.match(section, /^`--json`: /m, name);
    }
  });

  test("and README.md show examples whose flags there are", async () => {
    const known = await allCommands();
    const shown = new Set<string>();
    const lines = [await read("docs/cli.md"), await read("README.md")]
      .flatMap((text) => codeBlocks(text, "(?:sh)?"))
      .flatMap((block) => block.split("\n"))
      .filter((line) => line.startsWith("reid "));
    for (const line of lines) {
      const [, first, second, ...rest] = line.split("#")[0].trim().split(/ +/);
      const name = known.has(`${first} ${second}`)
        ? `${first} ${second}`
        : first;
      shown.add(name);
      const options = { ...known.get(name)?.options, ...commonOptions };
      const shorts = Object.values(options).map(({ short }) => short);
      for (const word of [second ?? "", ...rest])
        if (word.startsWith("--"))
          assert.ok(Object.hasOwn(options, word.slice(2)), line);
        else if (word.startsWith("-"))
          assert.ok(shorts.includes(word.slice(1)), line);
    }
    for (const [name, command] of known)
      if (command.run !== undefined) assert.ok(shown.has(name), name);
  });
});

/** Every page of the repository, as a path from its root. */
async function pages(): Promise<readonly string[]> {
  const named = (names: readonly string[]) =>
    names.filter((name) => name.endsWith(".md"));
  const below = await readdir(join(root, "docs"), { recursive: true });
  return [
    ...named(await readdir(root)),
    ...named(below).map((name) => join("docs", name)),
    "native/README.md",
    "test/golden/README.md",
  ];
}

/** A page's text without code blocks and code. */
function prose(text: string): string {
  return text
    .replaceAll(/^```[\s\S]*?^```/gm, "")
    .replaceAll(/`[^`\n]*`/g, "code");
}

/** The anchors of a page's headings, made as GitHub makes them. */
function anchors(text: string): readonly string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

describe("links", () => {
  test("between pages lead to files and headings that are there", async () => {
    for (const page of await pages())
      for (const [, target] of prose(await read(page)).matchAll(
        /\]\(([^)\s]+)\)/g,
      )) {
        if (/^[a-z]+:/.test(target)) continue;
        const [path, anchor] = target.split("#");
        const file = path === "" ? page : join(page, "..", path);
        await access(join(root, file)).catch(() =>
          assert.fail(`${target} in ${page}`),
        );
        if (anchor !== undefined)
          assert.ok(
            anchors(await read(file)).includes(anchor),
            `${target} in ${page}`,
          );
      }
  });

  test("in README.md lead to every page of docs/", async () => {
    const text = await read("README.md");
    const names = await readdir(join(root, "docs"));
    for (const name of names.filter((one) => one.endsWith(".md")))
      assert.ok(text.includes(`](docs/${name})`), name);
  });

  test("of the source to docs/ name pages that are there", async () => {
    const names = await readdir(join(root, "src"), { recursive: true });
    for (const name of names.filter((one) => one.endsWith(".ts")))
      for (const [page] of (await read(join("src", name))).matchAll(
        /docs\/[a-z0-9/-]+\.md/g,
      ))
        await access(join(root, page)).catch(() =>
          assert.fail(`${page} in src/${name}`),
        );
  });

  test("of the pages to the source name files that are there", async () => {
    for (const page of await pages())
      for (const [, path] of (await read(page)).matchAll(
        /`((?:src|test|bench|native|build|proto)\/[\w./-]+)`/g,
      ))
        await access(join(root, path)).catch(() =>
          assert.fail(`${path} in ${page}`),
        );
  });
});
