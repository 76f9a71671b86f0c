import { PermissionDeniedError } from "./auth-errors.js";
import type { Principal } from "./auth.js";
import { isName } from "./fields.js";
import { rpcs, type Role, type RpcName, type RpcRequest } from "./rpcs.js";

/** What a request needs beside the role of its RPC. */
export interface Needs {
  /** Galleries that it is about; `all`: every one, those to come included. */
  readonly galleries?: readonly string[] | "all";
  /** Fields of it that only a writer may set so, in words. */
  readonly writerFor?: readonly string[];
}

/** What the configuration grants. */
export interface Grants {
  readonly readersSeeFeatures: boolean;
}

const ranks: Readonly<Record<Role, number>> = {
  reader: 0,
  writer: 1,
  admin: 2,
};

const nothing = (): Needs => ({});
const inGallery = ({ gallery }: { readonly gallery: string }): Needs => ({
  galleries: [gallery],
});
const inNewGallery = ({
  gallery,
}: {
  readonly gallery: { readonly name: string } | null;
}): Needs => ({ galleries: gallery === null ? [] : [gallery.name] });
/** A read of entries: what features and crops show is for writers. */
const withView = (
  { gallery, view }: { readonly gallery: string; readonly view: string },
  { readersSeeFeatures }: Grants,
): Needs => ({
  galleries: [gallery],
  writerFor:
    !readersSeeFeatures && LARGE_VIEWS.has(view)
      ? [`view ${view.slice("ENTRY_VIEW_".length)}`]
      : [],
});
/** Read access cannot poison the memory. */
const observed = (observe: string | undefined): Needs => ({
  writerFor: observe === "OBSERVE_YES" ? ["observe YES"] : [],
});
const LARGE_VIEWS: ReadonlySet<string> = new Set([
  "ENTRY_VIEW_FEATURE",
  "ENTRY_VIEW_CROP",
]);
const ENROLLING: ReadonlySet<string> = new Set([
  "ENROLL_POLICY_NEW",
  "ENROLL_POLICY_NEW_AND_KNOWN",
]);

/** What each RPC's request needs. Unknown words need nothing: the request is refused for them later. */
const needs: {
  readonly [Name in RpcName]: (
    request: RpcRequest<Name>,
    grants: Grants,
  ) => Needs;
} = {
  "EmbedService/Embed": ({ observe }) => observed(observe),
  "EmbedService/StreamEmbed": ({ open }) => observed(open?.observe),
  "SearchService/Search": withView,
  "SearchService/Identify": ({ gallery, enroll }) => ({
    galleries: [gallery],
    writerFor: ENROLLING.has(enroll)
      ? [`enroll ${enroll.slice("ENROLL_POLICY_".length)}`]
      : [],
  }),
  "GalleryService/CreateGallery": inNewGallery,
  "GalleryService/GetGallery": inGallery,
  // It lists those that the caller may see.
  "GalleryService/ListGalleries": nothing,
  "GalleryService/UpdateGallery": inNewGallery,
  "GalleryService/DeleteGallery": inGallery,
  "GalleryService/Enroll": inGallery,
  "GalleryService/StreamEnroll": ({ open }) =>
    open === null || open === undefined ? {} : inGallery(open),
  "GalleryService/GetEntry": withView,
  "GalleryService/ListEntries": withView,
  "GalleryService/UpdateEntries": inGallery,
  "GalleryService/DeleteEntries": inGallery,
  "GalleryService/ListIdentities": inGallery,
  "GalleryService/ForgetIdentity": (request) =>
    request.gallery === "" ? { galleries: "all" } : inGallery(request),
  "ModelService/ListModels": nothing,
  "ModelService/GetModel": nothing,
  "ModelService/LoadModel": nothing,
  "ModelService/UnloadModel": nothing,
  "ModelService/ActivateModel": nothing,
  "ModelService/RollbackModel": nothing,
  "ModelService/StartMigration": inGallery,
  "MemoryService/GetMemory": nothing,
  "MemoryService/ListClusters": nothing,
  "MemoryService/ListClusterRows": nothing,
  "MemoryService/Assign": nothing,
  "MemoryService/Recluster": nothing,
  "MemoryService/PauseMemory": nothing,
  "MemoryService/ResumeMemory": nothing,
  "MemoryService/ExportMemory": nothing,
  "MemoryService/DeleteMemoryRows": nothing,
  // Operations of galleries that the caller may not see are not there for it: `seesSubject`.
  "OperationService/GetOperation": nothing,
  "OperationService/ListOperations": nothing,
  "OperationService/WatchOperation": nothing,
  "OperationService/CancelOperation": nothing,
  "AdminService/GetServerInfo": nothing,
  "AdminService/CreateSnapshot": inGallery,
  "AdminService/CreateBackup": ({ galleries }) => ({
    galleries: galleries.length === 0 ? "all" : galleries,
  }),
  // Nor are backups that hold such a gallery.
  "AdminService/ListBackups": nothing,
  "AdminService/DeleteBackup": nothing,
  "AdminService/RestoreBackup": ({ galleries }) => {
    const names = Object.entries(galleries).flat();
    return { galleries: names.length === 0 ? "all" : names };
  },
};

/** @throws {PermissionDeniedError} the principal's role is less than the least for the RPC */
export function requireRole(principal: Principal, name: RpcName): void {
  requireRank(principal, rpcs[name].role, name);
}

/**
 * Whether a request is one that the principal may make: by its fields, then by the galleries it is about.
 *
 * @throws {PermissionDeniedError}
 */
export function permit<Name extends RpcName>(
  principal: Principal,
  name: Name,
  request: RpcRequest<Name>,
  grants: Grants,
): void {
  const { galleries = [], writerFor = [] } = needs[name](request, grants);
  for (const field of writerFor)
    requireRank(principal, "writer", `${name} with ${field}`);
  if (galleries !== "all") requireGalleries(principal, name, galleries);
  else if (!principal.galleries.isAll)
    throw new PermissionDeniedError(
      `${name} without a gallery`,
      "gallery/*",
      principal.galleries.show(),
    );
}

/** Whether the principal may see what an operation is about: everything but galleries that it may not. */
export function seesSubject(
  { galleries }: Principal,
  subject: string,
): boolean {
  const [kind, name] = subject.split("/");
  return kind !== "gallery" || galleries.match(name);
}

/** @throws {PermissionDeniedError} the principal may not see one of them */
function requireGalleries(
  { galleries }: Principal,
  what: string,
  names: readonly string[],
): void {
  for (const name of names)
    // No gallery has another name, and the request is refused for it later.
    if (isName(name) && !galleries.match(name))
      throw new PermissionDeniedError(
        what,
        `gallery/${name}`,
        galleries.show(),
      );
}

function requireRank({ role }: Principal, least: Role, what: string): void {
  if (ranks[role] < ranks[least])
    throw new PermissionDeniedError(what, least, role);
}
