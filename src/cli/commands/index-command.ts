import type { Command } from "../command.js";
import { advise } from "./index/advise.js";
import { backup } from "./index/backup.js";
import { check } from "./index/check.js";
import { compact } from "./index/compact.js";
import { describe } from "./index/describe.js";
import { exportCommand } from "./index/export.js";
import { importCommand } from "./index/import.js";
import { rebuild } from "./index/rebuild.js";
import { repair } from "./index/repair.js";
import { restore } from "./index/restore.js";

/** `reid index`: looks after the galleries of a data folder. */
export const command: Command = {
  name: "index",
  summary: "check, mend, back up and restore the galleries of a data folder",
  usage:
    "check|describe|rebuild|repair|compact|backup|restore|export|import|advise …",
  options: {},
  subcommands: {
    ...{ check, describe, rebuild, repair, compact, backup, restore },
    export: exportCommand,
    import: importCommand,
    advise,
  },
};
