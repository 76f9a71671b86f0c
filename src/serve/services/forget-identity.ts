import { FieldInvalidError } from "../errors.js";
import { requireId, requireName, timestamp } from "../fields.js";
import type { ForgetIdentityRequest__Output } from "../generated/reid/v1/ForgetIdentityRequest.js";
import type { ForgetIdentityResponse } from "../generated/reid/v1/ForgetIdentityResponse.js";
import { rowsOfEntries, type IsForgottenRow } from "../online-forgetting.js";
import { forgetStoredRows } from "../online-store.js";
import type { Call } from "./call.js";
import type { ServiceContext } from "./context.js";

/** Of the reason that goes into the log. */
const REASON_BYTES = 200;

/**
 * Forgets an identity: entries, kept crops, memory rows of their crops and tracks, answers that name it.
 *
 * The name itself is logged nowhere; the receipt is, with whose call it was.
 */
export async function forgetIdentity(
  context: ServiceContext,
  request: ForgetIdentityRequest__Output,
  { principal }: Pick<Call, "principal">,
): Promise<ForgetIdentityResponse> {
  const { galleries, online, store, telemetry, log } = context;
  const identity = requireId(request.identity, "identity");
  const name =
    request.gallery === ""
      ? undefined
      : requireName(request.gallery, "gallery");
  const { reason } = request;
  const reasonBytes = Buffer.byteLength(reason);
  if (reasonBytes > REASON_BYTES)
    throw new FieldInvalidError(
      "reason",
      `${reasonBytes} bytes`,
      `at most ${REASON_BYTES} bytes of UTF-8`,
    );
  const scope =
    name === undefined ? await galleries.list() : [await galleries.get(name)];
  // The memory's rows are found by the entries: cut off in between, the same call again finds both.
  const known = (
    await Promise.all(scope.map((gallery) => gallery.rowsOf(identity)))
  ).flat();
  const forgetRows = (isForgotten: IsForgottenRow) =>
    online === undefined
      ? forgetStoredRows(store, isForgotten)
      : online.forget(isForgotten);
  let memoryRows = await forgetRows(rowsOfEntries(known));
  const forgotten = await galleries.forget(identity, name);
  memoryRows += await forgetRows(rowsOfEntries(forgotten.rows));
  for (const [gallery, entryCount] of forgotten.galleries)
    telemetry.add("reid.gallery.writes", entryCount, {
      gallery,
      write: "forget",
    });
  log.info("identity forgotten", {
    receipt: forgotten.receiptId,
    principal: principal.name,
    reason,
    entries: forgotten.entryCount,
    crops: forgotten.cropCount,
    memoryRows,
  });
  return {
    receiptId: forgotten.receiptId,
    forgottenAt: timestamp(forgotten.forgottenAtUs),
    entryCount: String(forgotten.entryCount),
    cropCount: String(forgotten.cropCount),
    memoryRowCount: String(memoryRows),
    backupIds: [
      ...(await backupsThatMayHold(
        context,
        scope.map((gallery) => gallery.name),
        forgotten.forgottenAtUs,
      )),
    ],
    // ExportMemory is not served: there is no export that a version could have been trained on.
    modelVersions: [],
  };
}

/** Backups of any of the galleries; which identities they hold is only known inside them. */
async function backupsThatMayHold(
  { backups }: Pick<ServiceContext, "backups">,
  galleries: readonly string[],
  forgottenAtUs: number,
): Promise<readonly string[]> {
  if (!backups.isOn) return [];
  return (await backups.list())
    .filter(
      (backup) =>
        backup.createdAtMs * 1000 <= forgottenAtUs &&
        backup.galleries.some(({ name }) => galleries.includes(name)),
    )
    .map(({ backupId }) => backupId);
}
