#!/bin/sh
# Runs the benchmarks; BENCHMARKS.md explains their results. Compare two runs with
# go tool -modfile=tools/go.mod benchstat OLD NEW
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_llama_server
exec go test -run '^$' -bench "${BENCH:-.}" -benchmem -count "${COUNT:-1}" -timeout 30m ./...
