import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);

/**
 * Where build/addon.sh leaves an addon.
 *
 * REID_ADDON_FOLDER, relative to the working folder, takes another build: the sanitizers' run sets it.
 */
export function addonPath(name: "faiss" | "folder_lock"): string {
  const built = fileURLToPath(
    new URL("../../../native/build/Release", import.meta.url),
  );
  return join(process.env["REID_ADDON_FOLDER"] ?? built, `${name}.node`);
}

/**
 * Loads an addon of ours.
 *
 * @throws the loader's own error where it is not built, or not for this machine
 */
export function loadAddon(name: "faiss" | "folder_lock"): unknown {
  const path = addonPath(name);
  return require(path.startsWith("/") ? path : join(process.cwd(), path));
}
