import { createHash } from "node:crypto";

/** The token of a caller in tests. */
export function tokenOf(name: string): string {
  return `token-of-${name}`;
}

/** What the configuration holds of it. */
export function tokenHash(name: string): string {
  return createHash("sha256").update(tokenOf(name)).digest("hex");
}

/** The `authorization` of a caller. */
export function bearer(name: string): string {
  return `Bearer ${tokenOf(name)}`;
}

/** A principal as the configuration writes it, known by its token. */
export function principal(name: string, role: string, more: object = {}) {
  return { name, role, token_sha256: tokenHash(name), ...more };
}
