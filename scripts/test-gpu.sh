#!/bin/bash
# Holds what is taken for granted about NVIDIA GPUs against a real one, in under ten minutes, and prints a table. It fails where
# something did not hold. Without a GPU it does nothing, but fails where ENGINE_PROVISIONER_GPU says that there is one.
#
#	scripts/test-gpu.sh [ARGUMENT...]   arguments are for scripts/testgpu, such as -rows 1,4
#	scripts/test-gpu.sh pack            makes what it needs beside this checkout, in bin/gpu (25 MB), and runs nothing
#
# The machine with the GPU needs root, nvcc, cmake, git and a C++ compiler, but neither Go nor a network where bin/gpu came
# along: llama.cpp is built there by mode source, once. A call that was ended goes on with the build of the last one.
# ENGINE_PROVISIONER_CUDA_SERVER names a llama-server to be tried instead, and ENGINE_PROVISIONER_VULKAN_SERVER one for Vulkan.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=b11434 # of scripts/llamacpp-source.sh
packed=bin/gpu

fail() {
	echo "test-gpu: $*" >&2
	exit 1
}

pack() {
	. scripts/setup.sh
	local source
	source=$(scripts/llamacpp-source.sh)
	mkdir -p "$packed"
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$packed/testgpu" ./scripts/testgpu
	# What the server is not made of is left out.
	git -C "$source" archive "$tag" -- . ':!models' ':!media' ':!docs' ':!gguf-py' ':!examples' ':!tests' ':!conversion' ':!benches' \
		':!skills' ':!pocs' ':!ci' | gzip -9 >"$packed/llama.cpp.tar.gz.tmp"
	mv "$packed/llama.cpp.tar.gz.tmp" "$packed/llama.cpp.tar.gz"
	du -sh "$packed/testgpu" "$packed/llama.cpp.tar.gz"
}

if [ "${1:-}" = pack ]; then
	pack
	exit 0
fi

if ! ls /dev/nvidia[0-9]* /dev/dxg >/dev/null 2>&1 && ! nvidia-smi -L >/dev/null 2>&1; then
	[ -z "${ENGINE_PROVISIONER_GPU:-}" ] || fail "there is no NVIDIA GPU, and ENGINE_PROVISIONER_GPU says that there is one"
	echo "test-gpu: there is no NVIDIA GPU; nothing was tried"
	exit 0
fi
[ -x "$packed/testgpu" ] && [ -f "$packed/llama.cpp.tar.gz" ] || pack

for dir in "${CUDA_HOME:-}/bin" /usr/local/cuda/bin /opt/cuda/bin; do
	[ ! -x "$dir/nvcc" ] || PATH="$PATH:$dir"
done
command -v nvcc >/dev/null || fail "nvcc is missing; install a CUDA toolkit, or set CUDA_HOME"
[ -x "$packed/hold" ] || nvcc -o "$packed/hold" scripts/testgpu/hold.cu

if [ -n "${ENGINE_PROVISIONER_CUDA_SERVER:-}" ]; then
	set -- -server "$ENGINE_PROVISIONER_CUDA_SERVER" "$@"
else
	source=$packed/llama.cpp
	if [ ! -d "$source/.git" ]; then
		rm -rf "$source"
		mkdir "$source"
		tar --no-same-owner -xzf "$packed/llama.cpp.tar.gz" -C "$source"
		git -C "$source" init --quiet --initial-branch=main
		git -C "$source" -c core.autocrlf=false add --all --force
		git -C "$source" -c user.name=test -c user.email=test@localhost commit --quiet --message="llama.cpp $tag"
		git -C "$source" tag "$tag"
	fi
	set -- -source "$PWD/$source" -ref "$tag" -cache "$PWD/$packed/cache" "$@"
fi
[ -z "${ENGINE_PROVISIONER_VULKAN_SERVER:-}" ] || set -- -vulkan "$ENGINE_PROVISIONER_VULKAN_SERVER" "$@"
exec "$packed/testgpu" -hold "$PWD/$packed/hold" "$@"
