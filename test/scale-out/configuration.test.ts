import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";

import { parseConfig } from "#core/config";
import { silentLog } from "#core/log";
import { startServer } from "#serve/server";

import { inFolder } from "../support/galleries.js";
import { inDatabase, scaledSettings, skipScaled } from "../support/scaled.js";

/** Nobody listens there. */
const nowhere = "127.0.0.1:9";

/** Fails unless a server with these settings ends at its start, for this reason. */
function notStarted(
  settings: Readonly<Record<string, object>>,
  reason: string,
): Promise<void> {
  return inFolder((folder) =>
    assert.rejects(
      startServer({
        config: parseConfig({
          ...settings,
          serve: {
            models: join(folder, "models"),
            data: join(folder, "data"),
            listen: "127.0.0.1:0",
            metrics: "",
          },
        }),
        log: silentLog,
      }),
      { code: reason },
    ),
  );
}

describe("a server", () => {
  test("does not start with one of the two engines, or with backups of its own", async () => {
    const { index, store } = scaledSettings({
      postgres: `postgres://reid@${nowhere}/reid`,
      milvus: nowhere,
    });
    await notStarted({ index }, "CONFIG_INVALID");
    await notStarted({ store }, "CONFIG_INVALID");
    const backup = { dir: "backups" };
    await notStarted({ index, store, backup }, "CONFIG_INVALID");
  });

  test("does not start without PostgreSQL", () =>
    notStarted(
      scaledSettings({
        postgres: `postgres://reid@${nowhere}/reid`,
        milvus: nowhere,
      }),
      "DATABASE_UNAVAILABLE",
    ));

  test("does not start without Milvus", { skip: skipScaled }, () =>
    inDatabase(({ postgres }) =>
      notStarted(
        scaledSettings({ postgres, milvus: nowhere }),
        "MILVUS_UNAVAILABLE",
      ),
    ),
  );
});
