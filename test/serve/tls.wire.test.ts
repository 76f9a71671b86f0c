import assert from "node:assert/strict";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as connectTls, type SecureVersion } from "node:tls";
import { connect, type Client, type ClientSecurity } from "#cli/client";
import { parseConfig } from "#core/config";
import { silentLog } from "#core/log";
import { startServer } from "#serve/server";
import {
  hasOpenssl,
  makeAuthority,
  makeCertificate,
  type CertificateFiles,
} from "../support/certificates.js";
import { bearer, principal, tokenOf } from "../support/tokens.js";
import {
  refused,
  startWireServer,
  type WireServer,
} from "../support/wire-server.js";

const skip = hasOpenssl ? false : "there is no openssl to make certificates";

/** What a server shows whoever connects. */
interface Shown {
  readonly protocol: string | null;
  /** Common name of its certificate. */
  readonly name: string;
}

/** What the server answers to an older version; a client that refused it itself would say something else. */
const tooOld = /alert protocol version/;

/** Shakes hands with a server; nothing is verified. */
function shake(
  address: string,
  maxVersion: SecureVersion = "TLSv1.3",
): Promise<Shown> {
  const [host, port] = address.split(":");
  return new Promise((resolve, reject) => {
    const socket = connectTls(
      {
        ...{ host, port: Number(port), maxVersion, ALPNProtocols: ["h2"] },
        minVersion: "TLSv1",
        // A client whose own library refuses TLS 1.1 would prove nothing.
        ciphers: "DEFAULT@SECLEVEL=0",
        rejectUnauthorized: false,
      },
      () => {
        const { subject } = socket.getPeerCertificate();
        const protocol = socket.getProtocol();
        socket.destroy();
        resolve({ protocol, name: String(subject.CN) });
      },
    );
    socket.on("error", reject);
  });
}

describe("TLS", { skip }, () => {
  let folder = "";
  let authority: CertificateFiles;
  let stranger: CertificateFiles;
  let first: CertificateFiles;
  let second: CertificateFiles;
  let wire: WireServer;
  const clients: Client[] = [];
  const settingsOf = ({ certificate, key }: CertificateFiles) => ({
    tls: { certificate, key, client_ca: authority.certificate },
    auth: {
      principals: [
        principal("tokened", "reader"),
        { name: "door", role: "writer", certificate: "spiffe://site/door" },
        { name: "hall", role: "admin", certificate: "hall.example" },
        {
          name: "old",
          role: "admin",
          certificate: "old.example",
          expires_at: "2020-01-01T00:00:00Z",
        },
      ],
    },
  });

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "reid-tls-"));
    authority = await makeAuthority(folder, "authority");
    stranger = await makeAuthority(folder, "stranger");
    const names = ["IP.1 = 127.0.0.1", "DNS.1 = localhost"];
    first = await makeCertificate(folder, "first", { authority, names });
    second = await makeCertificate(folder, "second", { authority, names });
    wire = await startWireServer(settingsOf(first));
  });
  after(async () => {
    for (const client of clients) client.close();
    await wire.close();
    await rm(folder, { recursive: true });
  });

  const security = async (
    certificate?: CertificateFiles,
  ): Promise<ClientSecurity> => ({
    ca: await readFile(authority.certificate),
    ...(certificate === undefined
      ? {}
      : {
          certificate: {
            cert: await readFile(certificate.certificate),
            key: await readFile(certificate.key),
          },
        }),
  });
  const roleOf = async (
    how: ClientSecurity,
    address = wire.address,
  ): Promise<string> => {
    const client = connect(address, how);
    clients.push(client);
    return (await client.AdminService.GetServerInfo({})).role;
  };
  const clientCertificate = (
    name: string,
    names: readonly string[],
    by = authority,
  ) => makeCertificate(folder, name, { authority: by, names });

  test("is 1.2 or 1.3, and nothing older", async () => {
    const newest = await shake(wire.address);
    assert.deepEqual(newest, { protocol: "TLSv1.3", name: "first" });
    assert.equal((await shake(wire.address, "TLSv1.2")).protocol, "TLSv1.2");
    for (const version of ["TLSv1.1", "TLSv1"] as const)
      await assert.rejects(shake(wire.address, version), tooOld);
  });

  test("takes no connection in the clear, and none from a client that knows other authorities", async () => {
    for (const how of [{}, { ca: await readFile(stranger.certificate) }]) {
      const client = connect(wire.address, {
        ...how,
        token: tokenOf("tokened"),
      });
      clients.push(client);
      await assert.rejects(client.AdminService.GetServerInfo({}), {
        kind: "unavailable",
      });
    }
  });

  test("lets tokens through without a client certificate", async () => {
    const token = tokenOf("tokened");
    assert.equal(await roleOf({ ...(await security()), token }), "reader");
    await refused(roleOf(await security()), "UNAUTHENTICATED");
  });

  test("knows a client by a URI or a DNS name of its certificate", async () => {
    for (const [name, alternative, role] of [
      ["by-uri", "URI.1 = spiffe://site/door", "writer"],
      ["by-dns", "DNS.1 = hall.example", "admin"],
      ["by-second", "DNS.1 = no.example\nURI.1 = spiffe://site/door", "writer"],
    ]) {
      const certificate = await clientCertificate(name, [alternative]);
      assert.equal(await roleOf(await security(certificate)), role, name);
    }
  });

  test("knows nobody by another name, an expired principal's, a name within a name, or the common name", async () => {
    for (const [name, alternative] of [
      ["unknown", "DNS.1 = lab.example"],
      ["expired", "DNS.1 = old.example"],
      // One URI; taken apart at the comma it would hold the hall's name.
      ["within", "URI.1 = spiffe://x\\, DNS:hall.example"],
      ["hall.example", "email.1 = hall@hall.example"],
    ]) {
      const certificate = await clientCertificate(name, [alternative]);
      await refused(roleOf(await security(certificate)), "UNAUTHENTICATED");
    }
  });

  test("knows nobody by a certificate of another authority, or one that signed itself", async () => {
    const names = ["DNS.1 = hall.example"];
    const forged = await clientCertificate("forged", names, stranger);
    await refused(roleOf(await security(forged)), "UNAUTHENTICATED");
    await refused(roleOf(await security(stranger)), "UNAUTHENTICATED");
  });

  test("takes the token's owner where a connection has a certificate too", async () => {
    const names = ["DNS.1 = hall.example"];
    const certificate = await clientCertificate("both", names);
    const both = await security(certificate);
    const token = tokenOf("tokened");
    assert.equal(await roleOf({ ...both, token }), "reader");
    await refused(roleOf({ ...both, token: "wrong" }), "UNAUTHENTICATED");
  });

  test("has a new certificate for new connections when the files change, and the old one while they do not fit", async () => {
    const live = {
      certificate: join(folder, "live.pem"),
      key: join(folder, "live.key"),
    };
    const install = async (of: CertificateFiles) => {
      await copyFile(of.certificate, live.certificate);
      await copyFile(of.key, live.key);
    };
    await install(first);
    const failures: unknown[] = [];
    const log = {
      ...silentLog,
      error: (message: string) => failures.push(message),
    };
    const own = await startWireServer(settingsOf(live), {
      log: { ...log, child: () => silentLog },
    });
    try {
      const client = connect(own.address, {
        ...(await security()),
        token: tokenOf("tokened"),
      });
      clients.push(client);
      await client.AdminService.GetServerInfo({});
      // A certificate without its key: the last pair stays.
      await copyFile(second.certificate, live.certificate);
      while (failures.length === 0) await shake(own.address);
      assert.equal((await shake(own.address)).name, "first");
      await copyFile(second.key, live.key);
      while ((await shake(own.address)).name === "first");
      const shown = await shake(own.address);
      assert.deepEqual(shown, { protocol: "TLSv1.3", name: "second" });
      // The old connection goes on; a new one still asks for client certificates and verifies them.
      await client.AdminService.GetServerInfo({});
      const names = ["DNS.1 = hall.example"];
      const good = await clientCertificate("after", names);
      assert.equal(await roleOf(await security(good), own.address), "admin");
      const forged = await clientCertificate("forged-after", names, stranger);
      await refused(
        roleOf(await security(forged), own.address),
        "UNAUTHENTICATED",
      );
      await assert.rejects(shake(own.address, "TLSv1.1"), tooOld);
    } finally {
      await own.close();
    }
  });

  test("lets nobody in by an authority that the file no longer holds", async () => {
    const live = join(folder, "clients.pem");
    await copyFile(authority.certificate, live);
    const settings = settingsOf(first);
    const own = await startWireServer({
      ...settings,
      tls: { ...settings.tls, client_ca: live },
    });
    try {
      const certificate = await clientCertificate("leaver", [
        "DNS.1 = hall.example",
      ]);
      const how = await security(certificate);
      assert.equal(await roleOf(how, own.address), "admin");
      await copyFile(stranger.certificate, live);
      const isKnown = () =>
        roleOf(how, own.address).then(
          () => true,
          () => false,
        );
      while (await isKnown());
      await refused(roleOf(how, own.address), "UNAUTHENTICATED");
    } finally {
      await own.close();
    }
  });

  test("does not make a server known that asks nobody who they are", async () => {
    const { certificate, key } = first;
    const data = join(folder, "data");
    const serve = { models: "none", data, listen: "0.0.0.0:0", metrics: "" };
    const config = parseConfig({
      device: "cpu",
      tls: { certificate, key },
      serve,
    });
    await refused(startServer({ config, log: silentLog }), "LISTEN_INSECURE");
  });

  for (const [what, tls, says] of [
    ["a certificate without its key", { certificate: "a.pem" }, /^tls\.key is/],
    ["a key alone", { key: "a.key" }, /^tls\.certificate is missing/],
    ["authorities alone", { client_ca: "ca.pem" }, /^tls\.certificate is/],
    [
      "files that are not there",
      { certificate: "none.pem", key: "none.key" },
      /^tls\.certificate is none\.pem \(ENOENT\)/,
    ],
  ] as const)
    test(`stops the start with CONFIG_INVALID for ${what}`, async () => {
      await assertConfig({ tls }, says);
    });

  test("stops the start with CONFIG_INVALID for a key that is another's, and for what is no PEM", async () => {
    const { certificate } = first;
    const mixed = { certificate, key: second.key };
    await assertConfig({ tls: mixed }, /^tls is .*mismatch/);
    const text = join(folder, "text");
    await writeFile(text, bearer("x"));
    await assertConfig({ tls: { ...mixed, key: text } }, /which is no PEM/);
  });

  const assertConfig = async (tree: object, says: RegExp) => {
    const config = parseConfig({
      device: "cpu",
      serve: { data: join(folder, "data"), listen: "127.0.0.1:0", metrics: "" },
      ...tree,
    });
    const error = await refused(
      startServer({ config, log: silentLog }),
      "CONFIG_INVALID",
    );
    assert.match(error.message, says);
  };
});
