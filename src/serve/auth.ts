import { createHash, timingSafeEqual } from "node:crypto";
import type { Clock } from "#core/clock";
import {
  readPrincipals,
  type AuthSettings,
  type PrincipalSettings,
  type TlsSettings,
} from "#core/config";
import { ConfigError } from "#core/errors";
import type { Log } from "#core/log";
import { WatchedFiles } from "#core/watched-files";
import { RateLimitedError, UnauthenticatedError } from "./auth-errors.js";
import { GalleryGlobs } from "./gallery-globs.js";
import type { Role } from "./rpcs.js";
import { TokenBucket } from "./token-bucket.js";

/** Somebody who makes calls. */
export interface Principal {
  readonly name: string;
  readonly role: Role;
  readonly galleries: GalleryGlobs;
  /** Undefined: any number. */
  readonly callsPerSecond: number | undefined;
  /** Since 1970, UTC; Infinity: never. */
  readonly expiresAtMs: number;
}

/** Who calls a server that authenticates nobody. */
export const everybody: Principal = {
  name: "everybody",
  role: "admin",
  galleries: new GalleryGlobs(["*"]),
  callsPerSecond: undefined,
  expiresAtMs: Infinity,
};

/** What a call brings to say who makes it. */
export interface Credentials {
  /** Each value of the `authorization` metadata. */
  readonly authorization: readonly string[];
  /** URIs and DNS names of a client certificate that was verified; none without one. */
  certificateNames(): readonly string[];
}

/** How callers are told apart. */
export interface AccessOptions {
  readonly auth: AuthSettings;
  readonly tls: TlsSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** A principal with what it is known by. */
interface Known {
  readonly principal: Principal;
  readonly tokenDigest: Buffer | undefined;
  readonly certificate: string | undefined;
}

const BEARER = /^Bearer +([A-Za-z0-9._~+/-]{1,512}={0,2})$/i;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Who may call: tokens and client certificates, and how many calls each has left. */
export class Access {
  /** Whether callers are told apart; otherwise everybody is an admin. */
  readonly isOn: boolean;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #watchers = new Set<() => void>();
  #known: readonly Known[] = [];
  #files: WatchedFiles | undefined;
  #expiry: NodeJS.Timeout | undefined;

  private constructor({ auth, clock, log }: AccessOptions) {
    this.isOn = auth.principals.length > 0 || auth.file !== undefined;
    this.#clock = clock;
    this.#log = log;
  }

  /** @throws {ConfigError} principals that do not fit together, or a file that cannot be read */
  static async open(options: AccessOptions): Promise<Access> {
    const { auth, tls } = options;
    const access = new Access(options);
    if (!access.isOn && tls.clientCa !== undefined)
      throw new ConfigError(
        "tls.client_ca",
        `"${tls.clientCa}"`,
        "principals under auth that name the certificates",
      );
    const { file } = auth;
    access.#files = await WatchedFiles.open(file === undefined ? [] : [file], {
      load: async () => {
        const own = knownFrom(auth.principals, "auth.principals", tls);
        const more =
          file === undefined
            ? []
            : knownFrom(
                await readPrincipals(file),
                `principals in ${file}`,
                tls,
              );
        requireDistinct([...own, ...more]);
        access.#use([...own, ...more]);
      },
      onFailure: (error) =>
        options.log.error("principals could not be read: the last stay", {
          error,
        }),
    });
    return access;
  }

  /**
   * Who makes a call. A call with a token is its owner's, whatever certificate its connection has.
   *
   * @throws {UnauthenticatedError} nobody that is known and in force
   */
  authenticate(credentials: Credentials): Principal {
    if (!this.isOn) return everybody;
    const { authorization } = credentials;
    const found =
      authorization.length > 0
        ? this.#byToken(authorization)
        : this.#byCertificate(credentials.certificateNames());
    if (found === undefined || found.expiresAtMs <= this.#clock.now())
      throw new UnauthenticatedError();
    return found;
  }

  /** Whether `authenticate` would give this principal again: none has changed since, and it has not expired. */
  isInForce(principal: Principal): boolean {
    return (
      this.#known.some((one) => one.principal === principal) &&
      principal.expiresAtMs > this.#clock.now()
    );
  }

  /** Counts a call against the principal's rate. @throws {RateLimitedError} */
  spend({ name, callsPerSecond }: Principal): void {
    if (callsPerSecond === undefined) return;
    const bucket = this.#buckets.get(name) ?? new TokenBucket();
    this.#buckets.set(name, bucket);
    const waitMs = bucket.take(callsPerSecond, this.#clock.monotonic());
    if (waitMs > 0) throw new RateLimitedError(callsPerSecond, waitMs);
  }

  /**
   * Calls back when principals have changed, or one has expired: what was allowed may be no longer.
   *
   * @returns calls back no more
   */
  watch(onChange: () => void): () => void {
    if (!this.isOn) return () => undefined;
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  /** Looks at once whether the file of principals has changed. */
  async look(): Promise<void> {
    await this.#files?.look();
  }

  /** Idempotent. */
  async close(): Promise<void> {
    clearTimeout(this.#expiry);
    this.#watchers.clear();
    await this.#files?.close();
  }

  #byToken(authorization: readonly string[]): Principal | undefined {
    const token = BEARER.exec(authorization[0])?.[1];
    if (authorization.length !== 1 || token === undefined) return undefined;
    const digest = createHash("sha256").update(token).digest();
    let found: Principal | undefined;
    // All of them, found or not: the time says nothing of which it was.
    for (const { principal, tokenDigest } of this.#known)
      if (tokenDigest !== undefined && timingSafeEqual(tokenDigest, digest))
        found = principal;
    return found;
  }

  #byCertificate(names: readonly string[]): Principal | undefined {
    for (const name of names)
      for (const { principal, certificate } of this.#known)
        if (certificate === name) return principal;
    return undefined;
  }

  #use(known: readonly Known[]): void {
    this.#known = known;
    const names = new Set(known.map(({ principal }) => principal.name));
    for (const name of this.#buckets.keys())
      if (!names.has(name)) this.#buckets.delete(name);
    const now = this.#clock.now();
    for (const { principal } of known)
      if (principal.expiresAtMs <= now)
        this.#log.warn("a principal has expired: its calls are refused", {
          principal: principal.name,
        });
    if (this.isOn)
      this.#log.info("principals are known", { count: known.length });
    this.#awaitExpiry();
    this.#tell();
  }

  #awaitExpiry(): void {
    clearTimeout(this.#expiry);
    const now = this.#clock.now();
    const next = Math.min(
      ...this.#known
        .map(({ principal }) => principal.expiresAtMs)
        .filter((atMs) => atMs > now),
    );
    if (next === Infinity) return;
    this.#expiry = setTimeout(
      () => {
        this.#awaitExpiry();
        this.#tell();
      },
      Math.min(next - now, MAX_TIMER_MS),
    );
    this.#expiry.unref();
  }

  #tell(): void {
    for (const onChange of [...this.#watchers]) onChange();
  }
}

/** @param where  the list's name, for errors */
function knownFrom(
  list: readonly PrincipalSettings[],
  where: string,
  tls: TlsSettings,
): readonly Known[] {
  return list.map((settings, i) => {
    const { name, tokenSha256, certificate, expiresAt } = settings;
    if (tokenSha256 === undefined && certificate === undefined)
      throw new ConfigError(
        `${where}[${i}]`,
        `"${name}" without token_sha256 and certificate`,
        "at least one of them",
      );
    if (certificate !== undefined && tls.clientCa === undefined)
      throw new ConfigError(
        `${where}[${i}].certificate`,
        `"${certificate}"`,
        "tls.client_ca beside it: without it no client is asked for a certificate",
      );
    return {
      principal: {
        name,
        role: settings.role,
        galleries: new GalleryGlobs(settings.galleries ?? ["*"]),
        callsPerSecond: settings.callsPerSecond,
        expiresAtMs: expiresAt === undefined ? Infinity : Date.parse(expiresAt),
      },
      tokenDigest:
        tokenSha256 === undefined ? undefined : Buffer.from(tokenSha256, "hex"),
      certificate,
    };
  });
}

/** @throws {ConfigError} two principals have the same name, token or certificate */
function requireDistinct(known: readonly Known[]): void {
  const seen = new Map<string, string>();
  for (const { principal, tokenDigest, certificate } of known)
    for (const [what, value] of [
      ["name", principal.name],
      ["token_sha256", tokenDigest?.toString("hex")],
      ["certificate", certificate],
    ] as const) {
      if (value === undefined) continue;
      const before = seen.get(`${what} ${value}`);
      if (before !== undefined)
        throw new ConfigError(
          `${what} of principal "${principal.name}"`,
          `that of principal "${before}" too`,
          "one of its own",
        );
      seen.set(`${what} ${value}`, principal.name);
    }
}
