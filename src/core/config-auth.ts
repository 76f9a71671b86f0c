import {
  facts,
  list,
  nested,
  openDigest,
  openInstant,
  openNumber,
  openPattern,
  openText,
  openTexts,
  pattern,
  requiredWord,
  section,
  yesNo,
  type SectionOutput,
} from "./config-fields.js";

/** Principals of one server: each call's token is compared with all of them. */
const MAX_PRINCIPALS = 1000;
const MAX_GLOBS = 256;

const principal = section({
  name: pattern(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    "name like [A-Za-z0-9][A-Za-z0-9._-]*",
    "required; for the log, and for its bucket of calls; no two are the same",
  ),
  role: requiredWord(["reader", "writer", "admin"], "required; what it may do"),
  tokenSha256: openDigest("SHA-256 of its token, as `reid token` prints it"),
  certificate: openPattern(
    /^[^\s,"]{1,255}$/,
    "URI or DNS name",
    "a URI or DNS name of its client certificate's subject alternative names; needs tls.client_ca",
  ),
  galleries: openTexts(/^[a-z0-9*?][a-z0-9._*?-]{0,62}$/, MAX_GLOBS, {
    expected: `list of at most ${MAX_GLOBS} names or globs`,
    description:
      "galleries that it may see; `*` stands for any letters, `?` for one; unset: all",
  }),
  callsPerSecond: openNumber(
    [0.001, 1_000_000],
    facts(
      "calls",
      "a second, with bursts of as many; a stream is one call; unset: any number",
    ),
  ),
  expiresAt: openInstant(
    "from then on its calls are refused and its streams end; unset: never",
  ),
});

const principals = list(
  principal,
  MAX_PRINCIPALS,
  "who may call, each by token_sha256 or certificate or both; none here and no auth.file: nobody is authenticated",
);

/** Who may call the server. */
export const authSection = nested({
  principals,
  file: openText(
    "YAML file with further principals under the one key `principals`, read again when it changes",
  ),
  readersSeeFeatures: yesNo(
    false,
    "readers may ask for entries with features and kept crops",
  ),
});

/** The file that `auth.file` names. */
export const principalsFile = section({ principals });

/** Section `auth`. */
export type AuthSettings = SectionOutput<typeof authSection>;

/** One principal as it is configured. */
export type PrincipalSettings = SectionOutput<typeof principal>;
