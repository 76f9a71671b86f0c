#!/usr/bin/env bash
# Builds native/build/Release/{faiss,folder_lock}.node with the headers beside the running Node: no network.
# Silent when all is well; does nothing when it is up to date.
#
#   build/addon.sh             builds
#   build/addon.sh --sanitize         builds under ASan and UBSan into native/build-sanitized and runs the addon's tests
#   build/addon.sh --sanitize=thread  the same under TSan, in native/build-thread
set -euo pipefail
cd "$(dirname "$0")/.."

mode=plain
sanitize=0
out=native/build
case "${1:-}" in
  --sanitize) mode=sanitized sanitize=1 out=native/build-sanitized ;;
  --sanitize=thread) mode=thread sanitize=2 out=native/build-thread ;;
esac

fail() {
  printf 'addon: %s\n' "$1" >&2
  exit 1
}

nodedir=$(node -p 'require("path").resolve(require("fs").realpathSync(process.execPath), "../..")')
[ -e "$nodedir/include/node/node_api.h" ] || fail "the headers of $(node -v) are not at $nodedir/include/node: install Node with its headers"
hash=$({ node -p 'process.version + process.arch'; g++ --version | head -1; cat native/*.cc native/*.h native/binding.gyp build/addon.sh; sha256sum "$(g++ -print-file-name=libfaiss.a)"; } | sha256sum | cut -c1-64)

if [ "$(cat "$out/.stamp" 2>/dev/null)" != "$hash" ] || [ ! -e "$out/Release/faiss.node" ]; then
  # node-gyp writes to a folder "build" beside binding.gyp and empties it; a copy keeps the two builds apart.
  stage=$(mktemp -d native/.stage.XXXXXX)
  trap 'rm -rf "$stage"' EXIT
  cp native/*.cc native/*.h native/binding.gyp "$stage/"
  log=$stage/log
  JOBS=$(nproc) node node_modules/node-gyp/bin/node-gyp.js rebuild -C "$stage" --nodedir="$nodedir" --offline --silent -- -Dsanitize=$sanitize >"$log" 2>&1 || { cat "$log" >&2; fail 'the build failed: its output is above'; }
  mkdir -p "$out/Release"
  for name in faiss folder_lock; do mv -f "$stage/build/Release/$name.node" "$out/Release/$name.node"; done
  printf '%s' "$hash" >"$out/.stamp"
fi

[ "$mode" = plain ] && exit 0
ls dist/test/index/faiss*.test.js >/dev/null 2>&1 || fail 'the tests are not built: run build/setup.sh'
# Their runtimes keep freed memory for a while: what is resident says nothing here.
export REID_LEAK_MINUTES=0
# Node itself is not instrumented: the runtime is preloaded, and what Node keeps at its end is not a leak of ours.
if [ "$mode" = thread ]; then
  # Neither are FAISS, OpenBLAS and libgomp, which starts no threads here; native/tsan.supp says what is left out and why.
  LD_PRELOAD="$(g++ -print-file-name=libtsan.so)" TSAN_OPTIONS="suppressions=$PWD/native/tsan.supp halt_on_error=1 exitcode=66" \
    REID_ADDON_FOLDER="$out/Release" node --test --test-concurrency=1 dist/test/index/faiss*.test.js
  exit 0
fi
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
  REID_ADDON_FOLDER="$out/Release" node --test --test-concurrency=1 dist/test/index/faiss*.test.js
