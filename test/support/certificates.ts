import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Files of a certificate and its key, PEM. */
export interface CertificateFiles {
  readonly certificate: string;
  readonly key: string;
}

/** Whether the `openssl` command is there to make certificates with. */
export const hasOpenssl: boolean = await run("openssl", ["version"]).then(
  () => true,
  () => false,
);

const newKey = [
  "-newkey",
  "ec",
  ...["-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
];

/** Makes an authority that signs for itself. */
export async function makeAuthority(
  folder: string,
  name: string,
): Promise<CertificateFiles> {
  const made = filesOf(folder, name);
  await run("openssl", [
    ...["req", "-x509", ...newKey, "-days", "2", "-subj", `/CN=${name}`],
    ...["-keyout", made.key, "-out", made.certificate],
  ]);
  return made;
}

/**
 * Makes a certificate that an authority signs.
 *
 * @param names  subject alternative names as openssl's configuration writes them: `DNS.1 = localhost`, a line each
 */
export async function makeCertificate(
  folder: string,
  name: string,
  {
    authority,
    names,
  }: {
    readonly authority: CertificateFiles;
    readonly names: readonly string[];
  },
): Promise<CertificateFiles> {
  const made = filesOf(folder, name);
  const request = join(folder, `${name}.csr`);
  const extensions = join(folder, `${name}.ext`);
  const text = ["subjectAltName = @names", "[names]", ...names].join("\n");
  await writeFile(extensions, `${text}\n`);
  await run("openssl", [
    ...["req", "-new", ...newKey, "-subj", `/CN=${name}`],
    ...["-keyout", made.key, "-out", request],
  ]);
  await run("openssl", [
    ...["x509", "-req", "-in", request, "-days", "2", "-out", made.certificate],
    ...["-CA", authority.certificate, "-CAkey", authority.key],
    ...["-CAcreateserial", "-extfile", extensions],
  ]);
  return made;
}

function filesOf(folder: string, name: string): CertificateFiles {
  return {
    certificate: join(folder, `${name}.pem`),
    key: join(folder, `${name}.key`),
  };
}
