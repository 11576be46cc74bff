#!/bin/sh
# Obtains a CUDA toolkit that compiles without a GPU or a driver, and prints its root, which is for CUDA_HOME.
#
#	scripts/cuda.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/cuda. The toolkit comes out of NVIDIA's Python packages
# (570 MB, 930 MB on the disk) through whatever index pip is configured for; scripts/cuda.txt has their versions and
# sha256. They lack the stub of the driver's library, so that llama.cpp needs -DGGML_CUDA_NO_VMM=ON. A second call only
# prints the path. Exit status: 0 done, 3 cannot be had on this machine, 1 else.
set -eu

cannot() { # cannot CAUSE WHAT-TO-DO
	echo "cuda.sh: cannot get a CUDA toolkit: $1; $2" >&2
	exit 3
}

packages=$(cd "$(dirname "$0")" && pwd -P)/cuda.txt
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/cuda}
version=$(sed -n 's/^nvidia-cuda-nvcc==\([0-9.]*\).*/\1/p' "$packages")
final=$dir/$version
if [ -d "$final" ]; then
	echo "$(cd "$final" && pwd -P)/nvidia/cu13"
	exit 0
fi
[ "$(uname -sm)" = "Linux x86_64" ] || cannot "scripts/cuda.txt has the packages for Linux on x86_64 alone" "install NVIDIA's toolkit, and set CUDA_HOME"
python3 -m pip --version >/dev/null 2>&1 || cannot "pip is missing" "install it, for example with: apt-get install python3-pip"

mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
find "$dir" -maxdepth 1 -name '.tmp.*' -mmin +60 -exec rm -rf {} + # what a killed run left behind
tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "cuda.sh: downloading CUDA $version (570 MB)" >&2
if ! python3 -m pip --disable-pip-version-check install -q --no-deps --no-cache-dir --no-compile --only-binary :all: --require-hashes \
	--root-user-action ignore --target "$tmp/root" -r "$packages" >"$tmp/log" 2>&1; then
	sed 's/^/  /' "$tmp/log" >&2
	cannot "the packages of scripts/cuda.txt cannot be installed" "check the network and pip's index"
fi
# What NVIDIA's other packages have: the folder by the name that builds look for, and libraries without a version.
cuda=$tmp/root/nvidia/cu13
ln -s lib "$cuda/lib64"
for library in "$cuda"/lib/*.so.*; do
	ln -s "${library##*/}" "${library%.so.*}.so"
done
if ! "$cuda/bin/nvcc" --version >"$tmp/log" 2>&1; then
	sed 's/^/  /' "$tmp/log" >&2
	cannot "nvcc $version does not run here" "install NVIDIA's toolkit, and set CUDA_HOME"
fi
mv -T "$tmp/root" "$final" 2>/dev/null || [ -d "$final" ] # another call was faster
echo "$(cd "$final" && pwd -P)/nvidia/cu13"
