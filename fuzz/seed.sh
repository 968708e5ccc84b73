#!/usr/bin/env bash
# Lays out the seeds from which the targets start: real WAL from tests/wal/seeds, and real files of data directories from
# fuzz/seeds. Needed once, before `cargo +nightly fuzz run TARGET`.
set -euo pipefail
cd "$(dirname "$0")"
for target in decoder mended page_header; do
  mkdir -p "corpus/$target"
  for seed in ../tests/wal/seeds/*.gz; do
    gunzip -c "$seed" >"corpus/$target/$(basename "$seed" .gz)"
  done
done
mkdir -p corpus/pgdata corpus/bodies
cp seeds/pgdata/* corpus/pgdata/
# Without their first page, the seeds are as good as bodies as anything.
for seed in corpus/mended/major-*; do
  tail -c +8193 "$seed" | head -c 6000 >"corpus/bodies/$(basename "$seed")"
done
