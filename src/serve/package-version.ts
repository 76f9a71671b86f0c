import { readFile } from "node:fs/promises";
import { protoFolder } from "./protocol.js";

/** The version of this program, as package.json has it. */
export async function packageVersion(): Promise<string> {
  const text = await readFile(`${protoFolder}../package.json`, "utf8");
  const parsed: unknown = JSON.parse(text);
  const isPackage =
    typeof parsed === "object" && parsed !== null && "version" in parsed;
  return isPackage ? String(parsed.version) : "";
}
