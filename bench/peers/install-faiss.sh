#!/usr/bin/env bash
# Debian's python3-faiss, the library of native/ as Python users have it. Does nothing when it is there.
set -euo pipefail
/usr/bin/python3 -c 'import faiss' 2>/dev/null && exit 0
echo 'bench: installing python3-faiss'
apt-get install -qq -y --no-install-recommends python3-faiss >/dev/null
