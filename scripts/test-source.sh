#!/bin/sh
# Builds the real llama.cpp with mode "source" for the CPU, starts it, asks it and stops it. It takes 10 minutes of
# CPU time; with ccache in PATH it is built twice, to see the difference.
set -eu
cd "$(dirname "$0")/.."
repo=$(scripts/llamacpp-source.sh)
ENGINE_PROVISIONER_LLAMA_SOURCE=$repo go test -tags source -run '^TestRealSource$' -timeout 4h -count 1 -v .
