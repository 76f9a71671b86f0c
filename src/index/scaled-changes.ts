import type { Session, SqlValue } from "#core/postgres";

import { isOverfull, updatedFields } from "./entry-changes.js";
import type {
  EntryChanges,
  EntrySelector,
  IdentityPage,
} from "./gallery-types.js";
import type { IdentitiesPage } from "./identities.js";
import type { ScaledDraft } from "./scaled-draft.js";
import { sqlFrom, type SqlCondition } from "./scaled-filter.js";
import { attributesFrom, storedAttributes } from "./scaled-text.js";

/** Cameras that a summary lists. */
const camerasListed = 32;

/** The entries that live, in which gallery, at which time. */
export interface Living {
  readonly number: number;
  readonly nowUs: number;
}

/** An entry that a selector hits. */
export interface SelectedEntry {
  readonly entryId: string;
  readonly sequence: number;
  readonly identity: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** An entry as a forgetting finds it: by camera and track the memory finds its rows. */
export interface ForgottenEntry {
  readonly entryId: string;
  readonly sequence: number;
  readonly identity: string;
  readonly cameraId: string;
  readonly trackId: string;
  readonly hasCrop: boolean;
  /** Of the crop that it was made of, hexadecimal. */
  readonly cropHash?: string;
}

/** Every entry of an identity, those whose time is over too. */
export async function entriesOfIdentity(
  session: Session,
  number: number,
  identity: string,
): Promise<readonly ForgottenEntry[]> {
  const found = await session.query<
    ForgottenEntry &
      Readonly<Record<string, unknown>> & { readonly hash: string | null }
  >(
    `SELECT entry_id AS "entryId", sequence, identity, camera_id AS "cameraId",
       track_id AS "trackId", crop IS NOT NULL AS "hasCrop",
       encode(crop_hash, 'hex') AS hash
     FROM entries WHERE gallery = $1 AND identity = $2 ORDER BY sequence`,
    [number, identity],
  );
  return found.map(({ hash, ...row }) =>
    hash === null ? row : { ...row, cropHash: hash },
  );
}

/** A selector as a condition; its values begin with `$3`. */
function selected(selector: EntrySelector): SqlCondition {
  if ("entryIds" in selector)
    return {
      text: "entry_id = ANY ($3::text[])",
      values: [selector.entryIds],
    };
  if ("identity" in selector)
    return { text: "identity = $3", values: [selector.identity] };
  return sqlFrom([selector.filter], 2);
}

/** The living entries that a selector hits, by sequence; by id in the order of the ids. */
export async function selectEntries(
  session: Session,
  { number, nowUs }: Living,
  selector: EntrySelector,
): Promise<readonly SelectedEntry[]> {
  const { text, values } = selected(selector);
  const order =
    "entryIds" in selector
      ? "array_position($3::text[], entry_id)"
      : "sequence";
  const found = await session.query<
    SelectedEntry & Readonly<Record<string, unknown>>
  >(
    `SELECT entry_id AS "entryId", sequence, identity, attributes FROM entries
     WHERE gallery = $1 AND (expires_at_us IS NULL OR expires_at_us > $2) AND ${text}
     ORDER BY ${order}`,
    [number, nowUs, ...values],
  );
  return found.map((one) => ({
    ...one,
    attributes: attributesFrom(one.attributes),
  }));
}

/**
 * Gives the selected entries new values and new sequences; features and crops stay where they are.
 *
 * @returns how many; `overfull`: an entry that may not be updated so, and then none is
 */
export async function updateSelected(
  session: Session,
  of: Living & {
    readonly draft: ScaledDraft;
    readonly selector: EntrySelector;
    readonly changes: EntryChanges;
  },
): Promise<{ updatedCount: number; overfull?: string }> {
  const { draft, number, changes } = of;
  const chosen = await selectEntries(session, of, of.selector);
  const overfull = chosen.find((one) => isOverfull(one, changes))?.entryId;
  if (overfull !== undefined) return { updatedCount: 0, overfull };
  if (chosen.length === 0) return { updatedCount: 0 };
  const moves = chosen.map((one) => ({
    from: one.sequence,
    to: draft.move(one, changes.identity ?? one.identity),
    attributes: JSON.stringify(
      storedAttributes(
        updatedFields(one, changes).attributes ?? one.attributes,
      ),
    ),
  }));
  const values: SqlValue[] = [
    number,
    moves.map(({ from }) => from),
    moves.map(({ to }) => to),
    moves.map(({ attributes }) => attributes),
  ];
  const columns: Readonly<Record<string, string | number | null | undefined>> =
    {
      identity: changes.identity,
      camera_id: changes.cameraId,
      track_id: changes.trackId,
      captured_at_us: changes.capturedAtUs,
      expires_at_us: changes.expiresAtUs,
    };
  const sets = Object.entries(columns).flatMap(([column, value]) => {
    if (value === undefined) return [];
    values.push(value);
    return [`, ${column} = $${values.length}`];
  });
  await session.query(
    `UPDATE entries AS e SET sequence = c.new, attributes = c.attributes::jsonb${sets.join("")}
     FROM unnest($2::bigint[], $3::bigint[], $4::text[]) AS c (old, new, attributes)
     WHERE e.gallery = $1 AND e.sequence = c.old`,
    values,
  );
  return { updatedCount: chosen.length };
}

/** One page of the identities that have living entries that pass a filter, in byte order. */
export async function identitiesPage(
  session: Session,
  { number, nowUs }: Living,
  { filter, after = "", pageSize }: IdentitiesPage,
): Promise<IdentityPage> {
  const { text, values } = sqlFrom([filter], 4);
  const found = await session.query<{
    identity: string;
    entryCount: number;
    cameraIds: readonly string[] | null;
    first: number | null;
    last: number | null;
  }>(
    `SELECT identity, count(*) AS "entryCount",
       (array_agg(DISTINCT camera_id) FILTER (WHERE camera_id <> ''))[1:${camerasListed}] AS "cameraIds",
       min(captured_at_us) AS first, max(captured_at_us) AS last
     FROM entries
     WHERE gallery = $1 AND identity <> '' AND identity > $2
       AND (expires_at_us IS NULL OR expires_at_us > $3) AND ${text}
     GROUP BY identity ORDER BY identity LIMIT $4`,
    [number, after, nowUs, pageSize + 1, ...values],
  );
  const page = found.slice(0, pageSize);
  return {
    identities: page.map(({ first, last, cameraIds, ...one }) => ({
      ...one,
      cameraIds: cameraIds ?? [],
      captured:
        first === null || last === null
          ? undefined
          : { startUs: first, endUs: last + 1 },
    })),
    nextIdentity: found.length > pageSize ? page.at(-1)?.identity : undefined,
  };
}
