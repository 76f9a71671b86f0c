import { ServerCredentials } from "@grpc/grpc-js";
import { readFile } from "node:fs/promises";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import type { TlsSettings } from "#core/config";
import { ConfigError } from "#core/errors";
import type { Log } from "#core/log";
import { WatchedFiles } from "#core/watched-files";

/** How connections are secured. */
export interface Transport {
  readonly credentials: ServerCredentials;
  /** Looks at once whether a file has changed. */
  look(): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
}

/**
 * Reads the certificate files; new connections have what they hold, from a second after a change.
 *
 * @throws {ConfigError} a file is missing, cannot be read, or holds something else
 */
export async function openTransport(
  settings: TlsSettings,
  log: Log,
): Promise<Transport> {
  const files = filesOf(settings);
  if (files === undefined)
    return {
      credentials: ServerCredentials.createInsecure(),
      look: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
  let credentials: CertificateCredentials | undefined;
  const watched = await WatchedFiles.open(
    Object.values(files).filter((file) => file !== undefined),
    {
      load: async () => {
        const context = await readContext(files);
        if (credentials === undefined)
          credentials = new CertificateCredentials(
            context,
            files.clientCa !== undefined,
          );
        else {
          credentials.replace(context);
          log.info("certificates were read again");
        }
      },
      // A certificate and its key are two files: while only one of them is new, they do not fit.
      onFailure: (error) =>
        log.error("certificates could not be read: the last stay", { error }),
    },
  );
  return {
    credentials: credentials ?? ServerCredentials.createInsecure(),
    look: () => watched.look(),
    close: () => watched.close(),
  };
}

/** Certificates that can be replaced while the server listens. */
class CertificateCredentials extends ServerCredentials {
  constructor(context: SecureContextOptions, asksClients: boolean) {
    // A connection without a certificate that counts stays: its calls may bring tokens, and health needs neither.
    super({ requestCert: asksClients, rejectUnauthorized: false }, context);
  }

  /** For connections from now on. */
  replace(context: SecureContextOptions): void {
    this.updateSecureContextOptions(context);
  }

  _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

interface CertificateFiles {
  readonly certificate: string;
  readonly key: string;
  readonly clientCa: string | undefined;
}

/** @throws {ConfigError} some are named and others that they need are not */
function filesOf({
  certificate,
  key,
  clientCa,
}: TlsSettings): CertificateFiles | undefined {
  if (certificate !== undefined && key !== undefined)
    return { certificate, key, clientCa };
  const [given] = Object.entries({
    "tls.certificate": certificate,
    "tls.key": key,
    "tls.client_ca": clientCa,
  }).filter(([, file]) => file !== undefined);
  if (given === undefined) return undefined;
  throw new ConfigError(
    certificate === undefined ? "tls.certificate" : "tls.key",
    `missing beside ${given[0]}`,
    "a PEM file: TLS needs a certificate and its key",
  );
}

async function readContext({
  certificate,
  key,
  clientCa,
}: CertificateFiles): Promise<SecureContextOptions> {
  const context: SecureContextOptions = {
    minVersion: "TLSv1.2",
    cert: await readPem("tls.certificate", certificate),
    key: await readPem("tls.key", key),
    ...(clientCa === undefined
      ? {}
      : { ca: await readPem("tls.client_ca", clientCa) }),
  };
  try {
    createSecureContext(context);
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    throw new ConfigError(
      "tls",
      `${certificate} with ${key} (${said})`,
      "a certificate, the key that belongs to it, and authorities, in PEM",
    );
  }
  return context;
}

async function readPem(field: string, file: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ConfigError(field, `${file} (${code})`, "a readable PEM file");
  }
  if (!bytes.includes("-----BEGIN "))
    throw new ConfigError(field, `${file}, which is no PEM`, "a PEM file");
  return bytes;
}
