import type { Galleries } from "#index/galleries";
import { EngineUnsupportedError } from "#index/scaled-errors";
import type { CreateSnapshotRequest__Output } from "../generated/reid/v1/CreateSnapshotRequest.js";
import type { CreateSnapshotResponse } from "../generated/reid/v1/CreateSnapshotResponse.js";
import type { Operation, OperationWork } from "../operation-types.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { identified, openGallery } from "./open-gallery.js";
import { startOnce } from "./start-operation.js";

const prefix = "gallery/";

function snapshotWork(
  galleries: Pick<Galleries, "get">,
  name: string,
): OperationWork {
  return async ({ report }) => {
    const gallery = await galleries.get(name);
    const { entryCount } = gallery.describe();
    report(0, entryCount);
    await gallery.snapshot();
    report(entryCount, entryCount);
    return undefined;
  };
}

/** Takes a snapshot again that the end of the server cut off. */
export function snapshotResumer(
  galleries: Pick<Galleries, "get">,
): (operation: Operation) => OperationWork {
  return ({ subject }) => snapshotWork(galleries, subject.slice(prefix.length));
}

/** Starts a snapshot of one gallery's index. */
export async function createSnapshot(
  context: ServiceContext,
  request: CreateSnapshotRequest__Output,
): Promise<CreateSnapshotResponse> {
  const { CreateSnapshot } = serviceDefinition("AdminService");
  const { config, galleries, operations } = context;
  const id = identified(request, CreateSnapshot);
  const { name } = await openGallery(context, request.gallery);
  if (config.index.engine === "milvus")
    throw new EngineUnsupportedError(
      "a snapshot of an index",
      "none is needed: Milvus keeps its indexes itself",
    );
  return startOnce(context, id, CreateSnapshot, (withOperation) =>
    operations.start(
      "snapshot",
      `${prefix}${name}`,
      snapshotWork(galleries, name),
      withOperation,
    ),
  );
}
