#!/usr/bin/env bash
# Brings a checkout from nothing to built, and does only what is missing:
# Debian packages, npm packages, the FAISS addon, the TypeScript build.
#
#   build/setup.sh              everything
#   build/setup.sh packages     Debian packages only (the Dockerfile's steps)
#   build/setup.sh npm | addon | compile
#
# A step is skipped when the hash of its inputs is the one that it last ended well with.
set -euo pipefail
cd "$(dirname "$0")/.."
export ONNXRUNTIME_NODE_INSTALL=skip
stamps=build/.stamps
mkdir -p "$stamps"

fail() {
  printf 'setup: %s\n' "$1" >&2
  exit 1
}

command -v node >/dev/null || fail 'Node is missing: install Node 20 or later'
node_major=$(node -p 'process.versions.node.split(".")[0]')
[ "$node_major" -ge 20 ] || fail "Node is version $node_major: install Node 20 or later"

# step NAME TEXT HASH COMMAND...: runs COMMAND unless NAME's stamp holds HASH; shows its output only when it fails.
step() {
  local name=$1 text=$2 hash=$3 log
  shift 3
  [ "$(cat "$stamps/$name" 2>/dev/null)" = "$hash" ] && return 0
  printf 'setup: %s\n' "$text"
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    fail "$name failed: its output is above"
  fi
  rm -f "$log"
  printf '%s' "$hash" >"$stamps/$name"
}

hash_of() { find "$@" -type f -print0 2>/dev/null | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64; }

# Debian's names, and the file that shows each is there.
missing_packages() {
  [ -e /usr/include/faiss/Index.h ] || echo libfaiss-dev
  ls /usr/lib/*/libopenblas.so >/dev/null 2>&1 || echo libopenblas-dev
  command -v g++ >/dev/null || echo g++
  command -v make >/dev/null || echo make
  command -v python3 >/dev/null || echo python3 # node-gyp is written in it
  [ -n "${REID_BUILD_ONLY:-}" ] || command -v strace >/dev/null || echo strace # a test traces system calls
}

install_packages() {
  local sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -q
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qy --no-install-recommends "$@"
}

packages() {
  local names
  names=$(missing_packages | tr '\n' ' ')
  [ -z "${names// /}" ] && return 0
  command -v apt-get >/dev/null || fail "these are missing: $names(Debian's names); install them"
  # shellcheck disable=SC2086
  step packages "Debian packages: $names" "$names $(date +%s)" install_packages $names
}

npm_packages() {
  [ -d node_modules ] || rm -f "$stamps/npm"
  step npm 'npm packages' "$(hash_of package.json package-lock.json)" npm ci --ignore-scripts --no-audit --no-fund
}

addon() {
  [ -n "$(find native -name 'faiss*.node' -print -quit 2>/dev/null)" ] || rm -f "$stamps/addon"
  step addon 'the FAISS addon' "$(node -v) $(find native binding.gyp -path native/build -prune -o -type f -print0 2>/dev/null | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64)" build/addon.sh
}

# The old output goes first: a compiled test whose source is gone would go on passing.
compile_typescript() { rm -rf dist && npx --no-install tsc; }

compile() {
  [ -d dist ] || rm -f "$stamps/compile"
  step compile 'TypeScript' "$(hash_of src test bench tsconfig.json package-lock.json)" compile_typescript
}

case "${1:-all}" in
  all) packages && npm_packages && addon && compile ;;
  packages) packages ;;
  npm) npm_packages ;;
  addon) addon ;;
  compile) compile ;;
  *) fail "there is no step \"$1\": packages, npm, addon, compile" ;;
esac
