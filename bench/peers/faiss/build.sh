#!/usr/bin/env bash
# Builds the C++ peers of bench/index into out/peers/faiss: plain as the library ships, and with the kernels of
# native/kernels.cc in place of its loops. Does nothing when they are up to date.
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=out/peers/faiss
mkdir -p "$folder"
sources=(bench/peers/faiss/search.cc native/kernels.cc native/kernels.h)
stale=0
for name in plain kernels; do
  for source in "${sources[@]}"; do [ "$folder/$name" -nt "$source" ] || stale=1; done
done
[ "$stale" = 0 ] && exit 0
flags=(-std=c++17 -O3 -fopenmp -isystem /usr/include/faiss)
libraries=(-l:libfaiss.a -lopenblas -lgomp)
g++ "${flags[@]}" bench/peers/faiss/search.cc -o "$folder/plain" "${libraries[@]}"
g++ "${flags[@]}" -ffp-contract=off -Wno-psabi bench/peers/faiss/search.cc native/kernels.cc -Inative -o "$folder/kernels" \
  -Wl,--allow-multiple-definition "${libraries[@]}"
