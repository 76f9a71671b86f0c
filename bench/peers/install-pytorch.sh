#!/usr/bin/env bash
# Installs PyTorch from PyPI into out/peers/pytorch, for benches only. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=out/peers/pytorch
[ -x "$folder/bin/python" ] && "$folder/bin/python" -c 'import torch' 2>/dev/null && exit 0
echo 'bench: installing PyTorch (about 5 GB with its libraries)'
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install -q "torch==${PYTORCH_VERSION:-2.15.0}" numpy
