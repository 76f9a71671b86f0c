import { readFile } from "node:fs/promises";
import {
  FailedRun,
  textFlag,
  type Command,
  type CommandContext,
  type JsonObject,
  type JsonValue,
} from "../command.js";
import {
  connectionOptions,
  CropsRefusedError,
  modelFromFlag,
  cropFiles,
  withClient,
} from "../connection.js";

const CROPS_A_CALL = 64;

/** `reid embed`: features of image files. */
export const command: Command = {
  name: "embed",
  summary: "embed crops and print their features",
  usage: "FILES… [--camera ID] [--model NAME[/VERSION]]",
  options: {
    ...connectionOptions,
    model: {
      type: "string",
      placeholder: "NAME[/VERSION]",
      description: "model version; default the active one of the default model",
    },
    camera: {
      type: "string",
      placeholder: "ID",
      description: "camera that took the crops",
    },
  },
  takesPaths: true,
  run,
};

async function run(context: CommandContext): Promise<JsonObject | FailedRun> {
  const { flags, positionals, out, signal } = context;
  const files = await cropFiles(positionals);
  const model = modelFromFlag(textFlag(flags, "model"));
  const cameraId = textFlag(flags, "camera") ?? "";
  return withClient(context, async (client) => {
    const results: JsonValue[] = [];
    const reasons: string[] = [];
    let version = "";
    for (let start = 0; start < files.length; start += CROPS_A_CALL) {
      const share = files.slice(start, start + CROPS_A_CALL);
      const response = await client.EmbedService.Embed(
        {
          model,
          crops: await Promise.all(
            share.map(async (path) => ({
              encoded: await readFile(path),
              cameraId,
            })),
          ),
        },
        { signal },
      );
      version = `${response.model?.name}/${response.model?.version}`;
      response.results.forEach(({ feature, error }, i) => {
        const file = share[i];
        if (feature === null || feature === undefined) {
          const message = error?.message ?? "no feature";
          out.line(`${file}: ${message}`);
          reasons.push(error?.reason ?? "");
          results.push({ file, reason: error?.reason ?? "", message });
          return;
        }
        const bytes = new Uint8Array(feature.f32le);
        const values = [...new Float32Array(bytes.buffer)];
        const shown = values.slice(0, 4).map((value) => value.toFixed(4));
        out.line(`${file}: ${values.length} numbers, ${shown.join(" ")} …`);
        results.push({ file, feature: values });
      });
    }
    const result = { model: version, results };
    return reasons.length === files.length
      ? new FailedRun(new CropsRefusedError("embedded", reasons), result)
      : result;
  });
}
