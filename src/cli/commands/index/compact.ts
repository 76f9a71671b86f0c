import type { Command } from "../../command.js";
import { dataOption, withFolder } from "./data-folder.js";

/** `reid index compact`: the store's file without what has been removed. */
export const compact: Command = {
  name: "compact",
  summary: "leave out of the store's file what has been removed",
  usage: "--data DIR",
  options: dataOption,
  run: (context) =>
    withFolder(context, async ({ store, galleries }) => {
      const { sizeBytes: beforeBytes } = await store.status();
      await galleries.compact();
      const { sizeBytes: afterBytes } = await store.status();
      context.out.line(
        `store: ${beforeBytes} bytes before, ${afterBytes} after`,
      );
      return { beforeBytes, afterBytes };
    }),
};
