import { readFile } from "node:fs/promises";
import type { ClientSecurity } from "./client.js";
import { textFlag, UsageError, type CommandContext } from "./command.js";

/** The flags by which a command says who it is, and knows the server. */
export const securityOptions = {
  "token-file": {
    type: "string",
    placeholder: "FILE",
    description: "file with the caller's token; default: the one in REID_TOKEN",
  },
  ca: {
    type: "string",
    placeholder: "FILE",
    description:
      "PEM file with the authorities of the server's certificate; with it the connection is TLS",
  },
  cert: {
    type: "string",
    placeholder: "FILE",
    description: "PEM file with the caller's certificate, for mutual TLS",
  },
  key: {
    type: "string",
    placeholder: "FILE",
    description: "PEM file with that certificate's key",
  },
} as const;

const TOKEN = /^[A-Za-z0-9._~+/-]+={0,2}$/;

/**
 * Reads what the flags and `REID_TOKEN` name.
 *
 * @throws {UsageError} a file cannot be read or holds no token, or one is missing beside another
 */
export async function securityOf({
  flags,
  environment,
}: Pick<CommandContext, "flags" | "environment">): Promise<ClientSecurity> {
  const read = async (flag: keyof typeof securityOptions) => {
    const file = textFlag(flags, flag);
    return file === undefined ? undefined : readGiven(flag, file);
  };
  const [tokenFile, ca, cert, key] = [
    await read("token-file"),
    await read("ca"),
    await read("cert"),
    await read("key"),
  ];
  if ((cert === undefined) !== (key === undefined))
    throw new UsageError(
      "--cert and --key go together: give both, or neither",
      cert === undefined ? "--key" : "--cert",
    );
  if (cert !== undefined && ca === undefined)
    throw new UsageError(
      "--cert without --ca: give the authorities of the server's certificate too",
      "--cert",
    );
  const token = (tokenFile?.toString() ?? environment["REID_TOKEN"])?.trim();
  if (token !== undefined && token !== "" && !TOKEN.test(token))
    throw new UsageError(
      `what ${tokenFile === undefined ? "REID_TOKEN" : "--token-file"} gives is no token: ` +
        "expected one line of letters, digits and -._~+/=",
    );
  return {
    ...(token === undefined || token === "" ? {} : { token }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined || key === undefined
      ? {}
      : { certificate: { cert, key } }),
  };
}

async function readGiven(flag: string, file: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new UsageError(
      `--${flag} is ${file} (${code}): expected a readable file`,
      file,
    );
  }
  if (bytes.length === 0)
    throw new UsageError(
      `--${flag} is ${file}, which is empty: expected a file with something in it`,
      file,
    );
  return bytes;
}
