#!/bin/sh
# Obtains a current llama-server from the distribution's archive and prints the path of an executable that runs it.
#
#	scripts/llama-server.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/llama-server, in which the packages are unpacked; the
# system is left as it is. A second call only prints the path. Exit status: 0 done, 3 cannot be had on this machine (use a
# llama-server in PATH), 1 else.
set -eu

script=llama-server.sh
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/llama-server}
. "$(dirname "$0")/debian.sh"

use_cached
unpack llama.cpp-tools
unpacked_server --version >"$tmp/log" 2>&1 || refuse "it does not run here"
keep
