import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { UsageError } from "#cli/command";
import { securityOf } from "#cli/client-security";
import { encodePng } from "#core/image";
import {
  hasOpenssl,
  makeAuthority,
  makeCertificate,
  type CertificateFiles,
} from "../support/certificates.js";
import { inFolder } from "../support/galleries.js";
import { reid } from "../support/reid-command.js";
import { principal, tokenOf } from "../support/tokens.js";
import { startWireServer, type WireServer } from "../support/wire-server.js";

describe("reid token", () => {
  test("makes another token each time, and the SHA-256 of just that", async () => {
    const made = await Promise.all(
      [0, 1].map(async () => {
        const { code, stdout } = await reid("token", "--json");
        assert.equal(code, 0);
        return JSON.parse(stdout) as { token: string; tokenSha256: string };
      }),
    );
    for (const { token, tokenSha256 } of made) {
      assert.match(token, /^[A-Za-z0-9_-]{43}$/);
      const digest = createHash("sha256").update(token).digest("hex");
      assert.equal(tokenSha256, digest);
    }
    assert.notEqual(made[0].token, made[1].token);
    const { stdout } = await reid("token");
    assert.match(stdout, /^token: \S{43}\ntoken_sha256: [0-9a-f]{64}\n/);
  });
});

describe("what a command says of its caller", () => {
  const given = (flags: Readonly<Record<string, string>>, token?: string) =>
    securityOf({ flags, environment: { REID_TOKEN: token } });

  test("is the token in the file before that of REID_TOKEN, without the line's end", () =>
    inFolder(async (folder) => {
      const file = join(folder, "token");
      await writeFile(file, `${tokenOf("a")}\n`);
      assert.deepEqual(await given({ "token-file": file }, tokenOf("b")), {
        token: tokenOf("a"),
      });
      assert.deepEqual(await given({}, tokenOf("b")), { token: tokenOf("b") });
      assert.deepEqual(await given({}), {});
    }));

  test("is refused where a file is missing, empty, or holds no token, or flags that go together do not", () =>
    inFolder(async (folder) => {
      const file = join(folder, "file");
      await writeFile(file, "two words");
      const empty = join(folder, "empty");
      await writeFile(empty, "");
      for (const [flags, says] of [
        [{ "token-file": join(folder, "none") }, /none \(ENOENT\)/],
        [{ "token-file": empty }, /which is empty/],
        [{ "token-file": file }, /--token-file gives is no token/],
        [{ cert: file }, /--cert and --key go together/],
        [{ key: file, ca: file }, /--cert and --key go together/],
        [{ cert: file, key: file }, /--cert without --ca/],
      ] as const)
        await assert.rejects(given(flags), (error) => {
          assert.ok(error instanceof UsageError, String(error));
          assert.match(error.message, says);
          assert.ok(!error.message.includes("two words"));
          return true;
        });
    }));
});

const skip = hasOpenssl ? false : "there is no openssl to make certificates";

describe("every command that talks to a server", { skip }, () => {
  let folder = "";
  let wire: WireServer;
  let authority: CertificateFiles;
  let client: CertificateFiles;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "reid-security-"));
    authority = await makeAuthority(folder, "authority");
    const { certificate, key } = await makeCertificate(folder, "server", {
      authority,
      names: ["IP.1 = 127.0.0.1"],
    });
    client = await makeCertificate(folder, "client", {
      authority,
      names: ["DNS.1 = operator.example"],
    });
    wire = await startWireServer({
      tls: { certificate, key, client_ca: authority.certificate },
      auth: {
        principals: [
          principal("operator", "admin"),
          {
            ...{ name: "certified", role: "admin" },
            certificate: "operator.example",
          },
        ],
      },
      serve: { online: true },
      backup: { dir: join(folder, "backups") },
    });
    await writeFile(join(folder, "token"), tokenOf("operator"));
    const noise = Uint8Array.from({ length: 600 }, (_, i) => (i * 37) % 256);
    const png = await encodePng({ data: noise, heightPx: 20, widthPx: 10 });
    await writeFile(join(folder, "crop.png"), png);
  });
  after(async () => {
    await wire.close();
    await rm(folder, { recursive: true });
  });

  const crop = () => join(folder, "crop.png");
  const calls: readonly (readonly [string, () => readonly string[]])[] = [
    [
      "enroll",
      () => [
        ...["enroll", crop(), "--gallery", "door", "--create"],
        ...["--identity", "42", "--address"],
      ],
    ],
    ["embed", () => ["embed", crop(), "--address"]],
    ["search", () => ["search", crop(), "--gallery", "door", "--address"]],
    ["identify", () => ["identify", crop(), "--gallery", "door", "--address"]],
    ["memory show", () => ["memory", "show", "--address"]],
    ["index backup", () => ["index", "backup", "--server"]],
  ];
  for (const [name, args] of calls)
    test(`works with --token-file and --ca, or with --cert and --key, and not without: ${name}`, async () => {
      const run = (...flags: readonly string[]) =>
        reid(
          ...args(),
          wire.address,
          ...["--ca", authority.certificate, "--json", ...flags],
        );
      const { code, stdout } = await run();
      assert.notEqual(code, 0);
      assert.match(stdout, /UNAUTHENTICATED/);
      for (const flags of [
        ["--token-file", join(folder, "token")],
        ["--cert", client.certificate, "--key", client.key],
      ]) {
        const ended = await run(...flags);
        assert.equal(ended.code, 0, ended.stderr);
      }
    });
});
