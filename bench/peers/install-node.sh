#!/usr/bin/env bash
# Installs the vector libraries that bench/index compares with into out/peers/node. Does nothing when they are there.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=out/peers/node
hnswlib=3.0.0
usearch=2.26.2
wanted="$hnswlib $usearch $(node -v)"
[ "$(cat "$folder/.stamp" 2>/dev/null)" = "$wanted" ] && exit 0
echo 'bench: installing hnswlib-node and usearch'
rm -rf "$folder"
mkdir -p "$folder"
echo '{"private":true}' >"$folder/package.json"
nodedir=$(node -p 'require("path").resolve(require("fs").realpathSync(process.execPath), "../..")')
npm install --silent --no-audit --no-fund --prefix "$folder" --nodedir="$nodedir" "hnswlib-node@$hnswlib" "usearch@$usearch"
printf '%s' "$wanted" >"$folder/.stamp"
