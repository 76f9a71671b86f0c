import { createHash, randomBytes } from "node:crypto";
import type { Command, JsonObject } from "../command.js";

/** As many as nobody can guess. */
const TOKEN_BYTES = 32;

/** `reid token`: a new token, and what the server's configuration holds of it. */
export const command: Command = {
  name: "token",
  summary: "make a token for a caller of the server",
  usage: "[--json]",
  options: {},
  run({ out }): Promise<JsonObject> {
    const token = randomBytes(TOKEN_BYTES).toString("base64url");
    const tokenSha256 = createHash("sha256").update(token).digest("hex");
    if (!out.json) out.raw(`token: ${token}\ntoken_sha256: ${tokenSha256}\n`);
    out.line(
      "the token is shown this once: it is for the caller, its SHA-256 for auth.principals of the server",
    );
    return Promise.resolve({ token, tokenSha256 });
  },
};
