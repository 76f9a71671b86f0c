#!/usr/bin/env bash
# Formatting and lint; silent when all is well, and skipped when nothing it reads has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/.stamps
hash=$(git ls-files -co --exclude-standard -- '*.ts' '*.js' '*.json' .prettierignore | sort | xargs sha256sum 2>/dev/null | sha256sum)
[ "$(cat build/.stamps/checks 2>/dev/null)" = "$hash" ] && exit 0
npx --no-install prettier --check --log-level warn src test bench build eslint.config.js
npx --no-install eslint src test bench
printf '%s' "$hash" >build/.stamps/checks
