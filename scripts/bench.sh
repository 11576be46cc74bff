#!/bin/sh
# Runs the benchmarks; BENCHMARKS.md explains their results. Compare two runs with
# go tool -modfile=tools/go.mod benchstat OLD NEW
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
exec go test -run '^$' -bench "${BENCH:-.}" -count "${COUNT:-1}" -timeout 30m ./...
