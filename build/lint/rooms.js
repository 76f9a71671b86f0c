/** Who may import whom. A room always sees itself, by relative path. */
export const mayImport = {
  core: [],
  onnx: ["core"],
  memory: ["core"],
  index: ["core"],
  train: ["core", "onnx", "memory"],
  serve: ["core", "onnx", "memory", "index"],
  cli: ["core", "onnx", "memory", "index", "train", "serve"],
};

/** The files that may import a package; everyone else goes through them. */
export const doors = {
  lmdb: [
    "src/core/store-environment.ts",
    "src/core/store-file.ts",
    "src/core/store-keys.ts",
    "src/core/store-tables.ts",
    "src/core/store-upgrade.ts",
    "src/core/store-worker.ts",
  ],
  pg: ["src/core/postgres.ts"],
  "@zilliz/milvus2-sdk-node": ["src/index/milvus.ts"],
  sharp: ["src/core/image.ts"],
  "@napi-rs/canvas": ["src/core/canvas.ts"],
  "@opentelemetry/api": ["src/core/telemetry.ts"],
  "@opentelemetry/sdk-metrics": ["src/core/telemetry.ts"],
  "@opentelemetry/resources": ["src/core/telemetry.ts"],
  pino: ["src/core/log.ts"],
  zod: ["src/core/config.ts", "src/core/config-fields.ts"],
  yaml: ["src/core/config.ts"],
  msgpackr: ["src/core/store-values.ts"],
  protobufjs: ["src/onnx/model.ts"],
  hyparquet: ["src/index/parquet-file.ts"],
  "hyparquet-writer": ["src/index/parquet-file.ts"],
  "onnxruntime-node": [
    "src/train/engines/onnxruntime.ts",
    "src/serve/inference-worker.ts",
    "src/index/exact.ts",
  ],
  "@grpc/grpc-js": [
    "src/serve/server.ts",
    "src/serve/services/*.ts",
    "src/cli/client.ts",
  ],
  "@grpc/proto-loader": [
    "src/serve/server.ts",
    "src/serve/services/*.ts",
    "src/cli/client.ts",
  ],
  "@grpc/reflection": ["src/serve/server.ts"],
  "grpc-health-check": ["src/serve/server.ts", "src/serve/services/*.ts"],
};

const rooms = Object.keys(mayImport);

/** The `no-restricted-imports` setting of one room, with some packages' doors opened. */
function importRule(room, opened) {
  const allowed = mayImport[room];
  return [
    "error",
    {
      paths: Object.entries(doors)
        .filter(([name]) => !opened.includes(name))
        .map(([name, files]) => ({
          name,
          message: `Only ${files.join(" and ")} may import ${name}.`,
        })),
      patterns: [
        {
          regex: `^#(?!(${allowed.join("|") || "none"})/)`,
          message: `src/${room} may import ${allowed.map((name) => `#${name}`).join(", ") || "no other room"}.`,
        },
        {
          regex: "^#[^/]+/.+/",
          message: "Only the top level of another room is public.",
        },
        {
          regex: `^(\\.\\./)+(${rooms.filter((name) => name !== room).join("|")})/`,
          message: "Cross rooms by #room/module, not by a relative path.",
        },
      ],
    },
  ];
}

/** One entry for each room, then one for each door, which repeats its room's table less its packages. */
export function roomRules() {
  const byRoom = rooms.map((room) => ({
    files: [`src/${room}/**/*.ts`],
    rules: { "no-restricted-imports": importRule(room, []) },
  }));
  const files = [...new Set(Object.values(doors).flat())];
  const byDoor = files.map((file) => ({
    files: [file],
    rules: {
      "no-restricted-imports": importRule(
        file.split("/")[1],
        Object.keys(doors).filter((name) => doors[name].includes(file)),
      ),
    },
  }));
  return [...byRoom, ...byDoor];
}
