import { stat } from "node:fs/promises";
import { wholeIn, requireName, timestamp } from "../fields.js";
import type { ModelInfo } from "../generated/reid/v1/ModelInfo.js";
import type { ModelServiceHandlers } from "../generated/reid/v1/ModelService.js";
import { showModel, type ModelFacts, type ModelState } from "../registry.js";
import { modelFrom } from "../requests.js";
import { failureFrom } from "../status.js";
import { rejectUnary, unary, type Call } from "./call.js";
import type { ServiceContext } from "./context.js";

const states: Readonly<
  Record<ModelState, Exclude<ModelInfo["state"], number | undefined>>
> = {
  "on-disk": "MODEL_STATE_ON_DISK",
  loading: "MODEL_STATE_LOADING",
  loaded: "MODEL_STATE_LOADED",
  active: "MODEL_STATE_ACTIVE",
  failed: "MODEL_STATE_FAILED",
};

/** Handlers of ModelService. */
export function modelService(context: ServiceContext): ModelServiceHandlers {
  const { registry, pages, config } = context;
  return {
    ListModels: unary(
      context,
      "ModelService/ListModels",
      async (request, call) => {
        const { name } = request;
        if (name !== "") requireName(name, "name");
        const bound = ["models", name];
        const page = pages.read(request, bound, config.limits.pageSize);
        await registry.refresh();
        const all = registry
          .list()
          .filter((facts) => name === "" || facts.name === name);
        const { items, next } = pages.slice(all, page, {
          keyOf: showModel,
          compare: compareModels,
        });
        return {
          models: await Promise.all(
            items.map((facts) => modelToWire(context, facts, call)),
          ),
          nextPageToken: pages.token(next, bound),
        };
      },
    ),
    GetModel: unary(context, "ModelService/GetModel", async (request, call) => {
      const model = modelFrom(request.model);
      if (model?.version !== undefined)
        wholeIn(model.version, "model.version", {
          minimum: 0,
          maximum: 2 ** 31,
        });
      await registry.refresh();
      return {
        info: await modelToWire(context, registry.describe(model), call),
      };
    }),
    LoadModel: rejectUnary(context, "ModelService/LoadModel"),
    UnloadModel: rejectUnary(context, "ModelService/UnloadModel"),
    ActivateModel: rejectUnary(context, "ModelService/ActivateModel"),
    RollbackModel: rejectUnary(context, "ModelService/RollbackModel"),
    StartMigration: rejectUnary(context, "ModelService/StartMigration"),
  };
}

/** By name, then version falling; the key is another one's `name/version`. */
function compareModels(facts: ModelFacts, key: string): number {
  const [name, version] = key.split("/");
  if (facts.name !== name) return facts.name > name ? 1 : -1;
  return Number(version) - facts.version;
}

/** A model version as the wire has it, with the galleries on it that the caller may see. */
async function modelToWire(
  context: ServiceContext,
  facts: ModelFacts,
  { principal }: Pick<Call, "principal">,
): Promise<ModelInfo> {
  const { manifest, name, version } = facts;
  // A version that is loaded serves on when its folder is gone.
  const written = await stat(facts.folder).catch(() => undefined);
  return {
    model: { name, version },
    state: states[facts.state],
    dimension: manifest.dimension,
    heightPx: manifest.heightPx,
    widthPx: manifest.widthPx,
    parentVersion: manifest.parentVersion,
    sha256: manifest.sha256,
    metrics: manifest.metrics,
    // The manifest holds no time, so that the same training gives the same bytes: the folder's is the bundle's.
    createdAt: timestamp(
      written === undefined ? undefined : Math.floor(written.mtimeMs) * 1000,
    ),
    loadedAt: timestamp(
      facts.loadedAtMs === undefined ? undefined : facts.loadedAtMs * 1000,
    ),
    galleries: context.galleries
      .known()
      .filter(
        (gallery) =>
          showModel(gallery.describe().model) === showModel(facts) &&
          principal.galleries.match(gallery.name),
      )
      .map((gallery) => gallery.name),
    device: facts.device ?? "",
    error:
      facts.error === undefined
        ? null
        : failureFrom(facts.error, context.log, ""),
  };
}
