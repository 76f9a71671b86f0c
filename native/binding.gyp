{
  "variables": { "sanitize%": 0 },
  "target_defaults": {
    "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")"],
    # Swallow: an error cannot be thrown in a worker that is being terminated; without it the whole process ends.
    "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++17", "-fexceptions", "-frtti", "-Wall", "-Wextra", "-fvisibility=hidden"],
    "conditions": [
      ["sanitize==1", {
        "cflags_cc": ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", "-g", "-O1"],
        "ldflags": ["-fsanitize=address,undefined"]
      }],
      ["sanitize==2", {
        "cflags_cc": ["-fsanitize=thread", "-fno-omit-frame-pointer", "-g", "-O1"],
        # Node exports libstdc++'s templates: bound to its own, not instrumented ones, a shared_ptr would look like a race.
        "ldflags": ["-fsanitize=thread", "-Wl,-Bsymbolic"]
      }],
      ["sanitize==0", {
        "cflags_cc": ["-O3"]
      }]
    ]
  },
  "targets": [
    {
      "target_name": "faiss",
      "sources": [
        "addon.cc", "arguments.cc", "batch_scan.cc", "body.cc", "calls.cc", "compaction.cc", "graph_walk.cc", "handle.cc",
        "id_set.cc", "id_table.cc", "index_file.cc", "index_kinds.cc", "kernels.cc", "link.cc", "pool.cc", "scan.cc",
        "stop.cc", "storage.cc", "vector_index.cc"
      ],
      # kernels.cc: every clone must round alike. FAISS's headers are not ours to warn about.
      "cflags_cc": ["-fopenmp", "-ffp-contract=off", "-Wno-psabi", "-isystem", "/usr/include/faiss"],
      # kernels.o defines two functions that the archive defines too: the first on the line wins.
      "ldflags": ["-Wl,--allow-multiple-definition", "-Wl,--exclude-libs,ALL", "-fopenmp"],
      "libraries": ["-l:libfaiss.a", "-lopenblas", "-lgomp"],
      "conditions": [["sanitize==2", { "sources": ["tsan_memset.cc"] }]]
    },
    {
      "target_name": "folder_lock",
      "sources": ["folder_lock.cc"]
    }
  ]
}
