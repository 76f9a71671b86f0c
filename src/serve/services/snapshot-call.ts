import type { Galleries } from "#index/galleries";
import type { CreateSnapshotRequest__Output } from "../generated/reid/v1/CreateSnapshotRequest.js";
import type { CreateSnapshotResponse } from "../generated/reid/v1/CreateSnapshotResponse.js";
import type { Operation, OperationWork } from "../operation-types.js";
import type { ServiceContext } from "./context.js";
import { serviceDefinition } from "./definitions.js";
import { identified, openGallery } from "./open-gallery.js";
import { operationToWire } from "./operation.js";

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
  const { galleries, operations, requests } = context;
  const id = identified(request, CreateSnapshot);
  const { name } = await openGallery(context, request.gallery);
  const bytes = await requests.once(id, async (keep) => {
    let response: Buffer = Buffer.alloc(0);
    await operations.start(
      "snapshot",
      `${prefix}${name}`,
      snapshotWork(galleries, name),
      (writer, operation) => {
        response = CreateSnapshot.responseSerialize({
          operation: operationToWire(context, operation),
        });
        keep(writer, response);
      },
    );
    return response;
  });
  return CreateSnapshot.responseDeserialize(Buffer.from(bytes));
}
