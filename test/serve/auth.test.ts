import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, mock, test } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { systemClock, type Clock } from "#core/clock";
import { parseConfig } from "#core/config";
import { ConfigError } from "#core/errors";
import { silentLog } from "#core/log";
import { Access, type Credentials } from "#serve/auth";
import { PermissionDeniedError } from "#serve/auth-errors";
import { certificateNames } from "#serve/certificate-names";
import { GalleryGlobs } from "#serve/gallery-globs";
import { callerOf } from "#serve/services/credentials";
import { TokenBucket } from "#serve/token-bucket";
import { inFolder } from "../support/galleries.js";
import { bearer, principal, tokenHash, tokenOf } from "../support/tokens.js";

/** Opens access with principals, and with TLS that asks clients for certificates. */
function opened(
  principals: readonly object[],
  { clock = systemClock, file }: { clock?: Clock; file?: string } = {},
): Promise<Access> {
  const { auth, tls } = parseConfig({
    auth: { principals, ...(file === undefined ? {} : { file }) },
    tls: { client_ca: "ca.pem" },
  });
  return Access.open({ auth, tls, clock, log: silentLog });
}

const withToken = (...authorization: readonly string[]): Credentials => ({
  authorization,
  certificateNames: () => [],
});
const withCertificate = (...names: readonly string[]): Credentials => ({
  authorization: [],
  certificateNames: () => names,
});
const isUnauthenticated = { code: "UNAUTHENTICATED" };

describe("who makes a call", () => {
  test("is the owner of its token, however Bearer is written", async () => {
    const access = await opened([
      principal("a", "reader"),
      principal("b", "admin"),
    ]);
    for (const value of [
      bearer("b"),
      `bearer ${tokenOf("b")}`,
      `BEARER  ${tokenOf("b")}`,
    ])
      assert.equal(access.authenticate(withToken(value)).name, "b", value);
    await access.close();
  });

  test("is nobody with a token that is unknown, malformed, given twice, or none", async () => {
    const access = await opened([principal("a", "reader")]);
    const bad: readonly (readonly string[])[] = [
      [],
      [""],
      ["Bearer"],
      ["Bearer "],
      [tokenOf("a")],
      [`Basic ${tokenOf("a")}`],
      [`Bearer ${tokenOf("a")} more`],
      [`Bearer ${tokenOf("a")}\n`],
      [`Bearer ${tokenHash("a")}`],
      [bearer("b")],
      [`Bearer ${"x".repeat(513)}`],
      [bearer("a"), bearer("a")],
    ];
    for (const values of bad)
      assert.throws(
        () => access.authenticate(withToken(...values)),
        isUnauthenticated,
        JSON.stringify(values),
      );
    await access.close();
  });

  test("is whom a name of its certificate belongs to, and its token's owner where there are both", async () => {
    const access = await opened([
      { name: "door", role: "writer", certificate: "spiffe://site/door" },
      principal("a", "reader"),
    ]);
    const door = withCertificate("other.example", "spiffe://site/door");
    assert.equal(access.authenticate(door).name, "door");
    for (const names of [[], ["spiffe://site/door2"], ["spiffe://site"]])
      assert.throws(
        () => access.authenticate(withCertificate(...names)),
        isUnauthenticated,
      );
    const both = (token: string): Credentials => ({
      ...door,
      authorization: [token],
    });
    assert.equal(access.authenticate(both(bearer("a"))).name, "a");
    // A wrong token is not mended by a certificate.
    assert.throws(
      () => access.authenticate(both(bearer("x"))),
      isUnauthenticated,
    );
    await access.close();
  });

  test("is nobody from the instant on at which the principal expires", async () => {
    const atMs = Date.parse("2030-01-31T12:00:00Z");
    let now = atMs - 1;
    const clock: Clock = { now: () => now, monotonic: () => 0 };
    const expires_at = "2030-01-31T13:00:00+01:00";
    const access = await opened([principal("a", "reader", { expires_at })], {
      clock,
    });
    assert.equal(access.authenticate(withToken(bearer("a"))).name, "a");
    now = atMs;
    assert.throws(
      () => access.authenticate(withToken(bearer("a"))),
      isUnauthenticated,
    );
    await access.close();
  });

  test("is everybody, an admin, where there are no principals", async () => {
    const { auth, tls } = parseConfig({});
    const access = await Access.open({
      ...{ auth, tls, clock: systemClock, log: silentLog },
    });
    assert.equal(access.isOn, false);
    assert.equal(access.authenticate(withToken("nonsense")).role, "admin");
    await access.close();
  });
});

describe("who makes a call that is under way", () => {
  /** A call under a token, as each that handles it sees it. */
  const callUnder = (name: string) => {
    const metadata = new Metadata();
    metadata.set("authorization", bearer(name));
    return () => ({ metadata, getAuthContext: () => ({}) });
  };

  test("is looked up once, for each call, and again when principals have changed", () =>
    inFolder(async (folder) => {
      const file = join(folder, "principals.yaml");
      const write = (...principals: readonly object[]) =>
        writeFile(file, JSON.stringify({ principals }));
      await write(principal("a", "reader"), principal("b", "admin"));
      const access = await opened([], { file });
      const lookUp = mock.method(access, "authenticate");
      const [a, b] = [callUnder("a"), callUnder("b")];
      const names = () => [callerOf(access, a()), callerOf(access, b())];
      const first = names();
      assert.deepEqual(
        first.map(({ role }) => role),
        ["reader", "admin"],
      );
      assert.deepEqual(names(), first);
      assert.equal(lookUp.mock.callCount(), 2);
      await write(principal("a", "writer"));
      await access.look();
      assert.equal(callerOf(access, a()).role, "writer");
      assert.throws(() => callerOf(access, b()), isUnauthenticated);
      assert.equal(lookUp.mock.callCount(), 4);
      await access.close();
    }));

  test("is nobody once the principal has expired", async () => {
    let now = 0;
    const clock: Clock = { now: () => now, monotonic: () => 0 };
    const expires_at = "2030-01-31T12:00:00Z";
    const access = await opened([principal("a", "reader", { expires_at })], {
      clock,
    });
    const a = callUnder("a");
    assert.equal(callerOf(access, a()).name, "a");
    now = Date.parse(expires_at);
    assert.throws(() => callerOf(access, a()), isUnauthenticated);
    await access.close();
  });
});

describe("principals that do not fit", () => {
  const refused = async (work: Promise<Access>, says: RegExp) => {
    await assert.rejects(work, (error) => {
      assert.ok(error instanceof ConfigError, String(error));
      assert.match(error.message, says);
      return true;
    });
  };

  test("are refused: without token and certificate, or with another's name, token or certificate", async () => {
    await refused(
      opened([{ name: "a", role: "reader" }]),
      /auth\.principals\[0\] is "a" without token_sha256 and certificate/,
    );
    const a = principal("a", "reader");
    await refused(
      opened([a, { ...principal("b", "reader"), name: "a" }]),
      /^name of principal "a"/,
    );
    await refused(
      opened([a, { ...a, name: "b" }]),
      /^token_sha256 of principal "b" is that of principal "a" too/,
    );
    const door = { role: "reader", certificate: "door.example" };
    await refused(
      opened([
        { ...door, name: "a" },
        { ...door, name: "b" },
      ]),
      /^certificate of principal "b"/,
    );
  });

  test("are refused: certificates that no client is asked for, and an authority without principals", async () => {
    const open = (tree: object) => {
      const { auth, tls } = parseConfig(tree);
      const options = { auth, tls, clock: systemClock, log: silentLog };
      return Access.open(options);
    };
    const principals = [{ name: "a", role: "reader", certificate: "a.b" }];
    await refused(open({ auth: { principals } }), /tls\.client_ca beside it/);
    await refused(open({ tls: { client_ca: "ca.pem" } }), /^tls\.client_ca/);
  });

  test("are refused in the file too, against those of the configuration", () =>
    inFolder(async (folder) => {
      const file = join(folder, "principals.yaml");
      const principals = [principal("a", "reader")];
      await writeFile(file, JSON.stringify({ principals }));
      await refused(opened(principals, { file }), /^name of principal "a"/);
    }));
});

describe("the file of principals", () => {
  test("counts from the next look on, and what was known stays where it is broken", () =>
    inFolder(async (folder) => {
      const file = join(folder, "principals.yaml");
      const write = (...principals: readonly object[]) =>
        writeFile(file, JSON.stringify({ principals }));
      await write(principal("a", "reader"));
      const access = await opened([principal("own", "admin")], { file });
      let told = 0;
      access.watch(() => (told += 1));
      const role = (name: string) =>
        access.authenticate(withToken(bearer(name))).role;
      assert.equal(role("a"), "reader");
      await write(principal("a", "writer"), principal("b", "reader"));
      await access.look();
      assert.deepEqual([role("a"), role("b")], ["writer", "reader"]);
      assert.equal(told, 1);
      await writeFile(file, "principals: [{");
      await access.look();
      assert.deepEqual([role("a"), role("own")], ["writer", "admin"]);
      assert.equal(told, 1);
      await write(principal("b", "reader"));
      await access.look();
      assert.throws(() => role("a"), isUnauthenticated);
      assert.deepEqual([role("b"), role("own"), told], ["reader", "admin", 2]);
      await access.close();
    }));
});

describe("a rate", () => {
  test("lets a second's worth through at once, then evenly, and says when there is more", () => {
    const bucket = new TokenBucket();
    for (let call = 0; call < 5; call++) assert.equal(bucket.take(5, 1000), 0);
    assert.equal(bucket.take(5, 1000), 200);
    assert.equal(bucket.take(5, 1150), 50);
    assert.equal(bucket.take(5, 1200), 0);
    assert.equal(bucket.take(5, 1201), 199);
    for (let call = 0; call < 5; call++)
      assert.equal(bucket.take(5, 60_000), 0, "it holds one second's worth");
    assert.equal(bucket.take(5, 60_000), 200);
  });

  test("below one a second lets one through, then none for as long as it says", () => {
    const bucket = new TokenBucket();
    assert.equal(bucket.take(0.1, 0), 0);
    assert.equal(bucket.take(0.1, 4000), 6000);
    assert.equal(bucket.take(0.1, 9999), 1);
    assert.equal(bucket.take(0.1, 10_000), 0);
  });

  test("is each principal's own, and stays spent where the file is read again", () =>
    inFolder(async (folder) => {
      const file = join(folder, "principals.yaml");
      const principals = ["a", "b"].map((name) =>
        principal(name, "reader", { calls_per_second: 1 }),
      );
      await writeFile(file, JSON.stringify({ principals }));
      const clock: Clock = { now: () => 0, monotonic: () => 0 };
      const access = await opened([], { clock, file });
      const spend = (name: string) =>
        access.spend(access.authenticate(withToken(bearer(name))));
      spend("a");
      await writeFile(file, JSON.stringify({ principals }, undefined, 2));
      await access.look();
      assert.throws(() => spend("a"), {
        code: "RATE_LIMITED",
        facts: { limitPerSecond: 1, retryAfterMs: 1000 },
      });
      spend("b");
      await access.close();
    }));
});

describe("globs of galleries", () => {
  for (const [globs, seen, unseen] of [
    [["*"], ["a", "door-1", "a.b"], []],
    [["door"], ["door"], ["door-1", "doo", "adoor"]],
    [["door-*"], ["door-", "door-1", "door-1-2"], ["door", "a-door-1"]],
    [["*-1"], ["door-1"], ["door-2", "1"]],
    [["d?r"], ["dor", "d.r"], ["door", "dr"]],
    // A dot is a dot.
    [["a.b"], ["a.b"], ["acb"]],
    [["a", "b*"], ["a", "b", "bc"], ["c"]],
    [[], [], ["a"]],
  ] as const)
    test(`${JSON.stringify(globs)} match ${seen.join(", ")} and not ${unseen.join(", ")}`, () => {
      const galleries = new GalleryGlobs(globs);
      for (const name of seen) assert.ok(galleries.match(name), name);
      for (const name of unseen) assert.ok(!galleries.match(name), name);
      assert.equal(
        galleries.isAll,
        globs.some((glob) => glob === "*"),
      );
    });

  test("are shown in one short line, however many there are", () => {
    const globs = Array.from(
      { length: 256 },
      (_, i) => `${"x".repeat(60)}${i}`,
    );
    const { facts } = new PermissionDeniedError(
      "Search",
      "gallery/a",
      new GalleryGlobs(globs).show(),
    );
    assert.match(facts.actual, /^gallery\/x+0, .* and 252 more$/);
    assert.ok(facts.actual.length < 400);
    assert.equal(new GalleryGlobs([]).show(), "no gallery");
  });
});

describe("names of a certificate", () => {
  for (const [text, names] of [
    ["", []],
    [
      "URI:spiffe://site/door, DNS:door.example",
      ["spiffe://site/door", "door.example"],
    ],
    ["IP Address:127.0.0.1, DNS:a.b, email:x@y", ["a.b"]],
    // One name that would be two if it were taken apart at its comma.
    ['URI:"spiffe://a, DNS:evil"', ["spiffe://a, DNS:evil"]],
    ['DNS:"a\\"b", DNS:c', ['a"b', "c"]],
    // Not as Node writes it: then there are no names.
    ['DNS:a"b, URI:x', []],
    ["DNS:a,DNS:b", []],
  ] as const)
    test(`of ${text || "nothing"} are ${names.join(" and ") || "none"}`, () => {
      assert.deepEqual(certificateNames(text), names);
    });
});
