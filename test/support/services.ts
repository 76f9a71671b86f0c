import { spawn } from "node:child_process";
import { once } from "node:events";

/** What `build/scale-out.sh` does to a service that is up. */
export type Disturbance =
  | "milvus-kill"
  | "milvus-empty"
  | "milvus-start"
  | "milvus-freeze"
  | "milvus-thaw"
  | "postgres-crash"
  | "postgres-stop"
  | "postgres-start";

/** The script that has started the services; undefined: somebody else has, and they are not ours to disturb. */
const script = process.env["REID_TEST_SCALE_OUT"];

/** Why a test that disturbs services is skipped; false: it is not. */
export const skipDisturbed =
  script === undefined
    ? "PostgreSQL and Milvus are not ours to disturb: make test-scale-out"
    : false;

/** Does it; resolves when it is done: a start when the service answers. */
export async function disturb(what: Disturbance): Promise<void> {
  if (script === undefined) throw new RangeError(String(skipDisturbed));
  const running = spawn(script, [what], { stdio: "ignore" });
  const [code] = (await once(running, "close")) as [number | null];
  if (code !== 0) throw new RangeError(`${script} ${what} ended with ${code}`);
}
