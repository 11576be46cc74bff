#!/bin/sh
# Builds the real llama.cpp with mode "source" for the CPU, starts it, asks it and stops it. It takes 10 minutes of
# CPU time; with ccache in PATH it is built twice, to see the difference. Where NVIDIA's toolkit can be had (scripts/cuda.sh),
# it is configured for CUDA too, and one file of that compiled: neither takes a GPU. Arguments go to "go test".
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
repo=$(scripts/llamacpp-source.sh)
tests='^TestRealSource$'
if cuda=$(scripts/cuda.sh); then
	tests='^TestReal(Source|CUDA)$'
	export ENGINE_PROVISIONER_CUDA="$cuda"
else
	note "without a CUDA toolkit, so that only the build for the CPU is tested"
fi
ENGINE_PROVISIONER_LLAMA_SOURCE=$repo go test -tags source -run "$tests" -timeout 4h -count 1 -v "$@" .
