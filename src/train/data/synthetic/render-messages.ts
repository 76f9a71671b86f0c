import type { ErrorData } from "#core/errors";
import type { PlannedCrop } from "./crop-plan.js";
import type { RenderWorld } from "./render-options.js";

/** What a render worker is started with. */
export interface RenderTask {
  readonly world: RenderWorld;
  /** Folder the crops' paths are relative to; its subfolders are there. */
  readonly folder: string;
  readonly crops: readonly PlannedCrop[];
}

/** What a render worker says. */
export type RenderReply =
  | { readonly kind: "progress"; readonly rendered: number }
  | { readonly kind: "failed"; readonly error: ErrorData };
