#!/bin/sh
# Measures what the library costs, beside a bare starter; BENCHMARKS.md explains the results.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
go build -o bin/bench ./scripts/bench
exec bin/bench -rows "${ROWS:-}" -samples "${SAMPLES:-9}" -plot "${PLOT:-}" -profiles "${PROFILES:-}"
