import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseConfig, readPrincipals, treeFromConfig } from "#core/config";
import { ConfigError } from "#core/errors";
import { inFolder } from "../support/galleries.js";
import { principal, tokenOf } from "../support/tokens.js";

const one = (more: object = {}) => ({
  auth: { principals: [principal("cameras", "writer", more)] },
});

describe("section auth", () => {
  test("takes principals with galleries, rate and expiry, and gives them back as they were", () => {
    const settings = {
      galleries: ["door-*", "lab"],
      calls_per_second: 0.5,
      expires_at: "2030-01-31T12:00:00+01:00",
    };
    const config = parseConfig(one(settings));
    const [{ name, role, ...rest }] = config.auth.principals;
    assert.deepEqual([name, role], ["cameras", "writer"]);
    assert.equal(rest.callsPerSecond, 0.5);
    assert.equal(rest.expiresAt, settings.expires_at);
    assert.deepEqual(parseConfig(treeFromConfig(config)), config);
  });

  const refused = (tree: object): ConfigError => {
    try {
      parseConfig(tree);
    } catch (error) {
      assert.ok(error instanceof ConfigError, String(error));
      return error;
    }
    assert.fail("the configuration was taken");
  };

  for (const [tree, field, expected] of [
    [one({ role: "root" }), "auth.principals[0].role", /reader, writer, admin/],
    [one({ role: undefined }), "auth.principals[0].role", /reader, writer/],
    [one({ name: "" }), "auth.principals[0].name", /name like/],
    [one({ galleries: "door" }), "auth.principals[0].galleries", /list of/],
    [
      one({ galleries: ["door", "DOOR"] }),
      "auth.principals[0].galleries[1]",
      /names or globs/,
    ],
    [
      one({ calls_per_second: 0 }),
      "auth.principals[0].calls_per_second",
      /number from 0.001 to/,
    ],
    [
      one({ expires_at: "tomorrow" }),
      "auth.principals[0].expires_at",
      /time like 2030/,
    ],
    [
      one({ rate: 3 }),
      "auth.principals[0].rate",
      /one of auth\.principals\[\]\./,
    ],
    [{ auth: { principals: 3 } }, "auth.principals", /list of at most 1000/],
    [
      { auth: { principals: ["x"] } },
      "auth.principals[0]",
      /a section with keys/,
    ],
  ] as const)
    test(`says what ${field} takes where it is ${JSON.stringify(tree.auth)}`, () => {
      const error = refused(tree);
      assert.equal(error.facts.field, field);
      assert.match(error.facts.expected, expected);
    });

  test("never shows what was written in place of a token's hash", () => {
    const secret = tokenOf("cameras");
    const error = refused(one({ token_sha256: secret }));
    assert.equal(error.facts.field, "auth.principals[0].token_sha256");
    assert.match(error.message, /64 hexadecimal digits/);
    assert.ok(!JSON.stringify([error.message, error.facts]).includes(secret));
  });
});

describe("a file of principals", () => {
  test("holds what auth.principals holds", () =>
    inFolder(async (folder) => {
      const file = join(folder, "principals.yaml");
      const { auth } = one();
      // YAML contains JSON.
      await writeFile(file, JSON.stringify(auth));
      assert.deepEqual(
        await readPrincipals(file),
        parseConfig({ auth }).auth.principals,
      );
    }));

  test("is refused with the file's name where it does not fit, or is not there", () =>
    inFolder(async (folder) => {
      const file = join(folder, "principals.yaml");
      await writeFile(file, JSON.stringify(one({ role: "root" }).auth));
      for (const [path, says] of [
        [file, /^principals\[0\]\.role in .*principals\.yaml is "root"/],
        [join(folder, "none.yaml"), /none\.yaml \(ENOENT\)/],
      ] as const)
        await assert.rejects(readPrincipals(path), (error) => {
          assert.ok(error instanceof ConfigError);
          assert.match(error.message, says);
          return true;
        });
    }));
});
