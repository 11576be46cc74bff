# Sourced by the other scripts, in the repository's root. It puts into the environment what Go code here needs:
# CGO_ENABLED as the machine allows, and a real llama-server in ENGINE_PROVISIONER_LLAMA_SERVER where one can be had.
# shellcheck shell=sh

note() { echo "note: $*" >&2; }

command -v go >/dev/null 2>&1 || {
	echo "go is missing; install Go 1.26 or newer from https://go.dev/dl/" >&2
	exit 1
}

# The race detector needs cgo, and cgo needs a C compiler with a C library to link with.
# Go itself turns cgo off where it finds no compiler, but without a word, and on where the library's headers are missing.
if [ -z "${CGO_ENABLED:-}" ] &&
	! printf '#include <stdlib.h>\nint main(void) { return 0; }\n' |
		${CC:-$(go env CC)} -x c -o /dev/null - >/dev/null 2>&1; then
	note "there is no working C compiler; building without cgo, so races are not looked for"
	export CGO_ENABLED=0
fi

# Stamping a commit into binaries that stay here fails where the clone belongs to another user, as it may in CI.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

# provide_llama_server fails only in CI, where the tests with a real engine must run.
provide_llama_server() {
	[ -z "${ENGINE_PROVISIONER_LLAMA_SERVER:-}" ] || return 0
	if server=$(scripts/llama-server.sh); then
		:
	elif [ -n "${CI:-}" ]; then
		echo "cannot go on without a real llama-server: CI is set" >&2
		return 1
	elif server=$(command -v llama-server); then
		note "using the llama-server in PATH: $server"
	else
		note "there is no real llama-server"
		return 0
	fi
	export ENGINE_PROVISIONER_LLAMA_SERVER="$server"
}

# provide_llama_builds puts older builds of llama-server into ENGINE_PROVISIONER_LLAMA_BUILDS; it fails only in CI.
provide_llama_builds() {
	[ -z "${ENGINE_PROVISIONER_LLAMA_BUILDS:-}" ] || return 0
	if builds=$(scripts/llama-builds.sh); then
		ENGINE_PROVISIONER_LLAMA_BUILDS=$(echo "$builds" | sed 's/ /=/' | paste -sd :)
		export ENGINE_PROVISIONER_LLAMA_BUILDS
	elif [ -n "${CI:-}" ]; then
		echo "cannot go on without older builds of llama-server: CI is set" >&2
		return 1
	else
		note "there are no older builds of llama-server"
	fi
}

# provide_chromium finds a Chromium, or installs one where it may. It does not fail: what needs it says that it is left out.
provide_chromium() {
	[ -z "${ENGINE_PROVISIONER_CHROMIUM:-}" ] || return 0
	for name in chromium-headless-shell chromium chromium-browser google-chrome; do
		ENGINE_PROVISIONER_CHROMIUM=$(command -v $name) && export ENGINE_PROVISIONER_CHROMIUM && return 0
	done
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -z "${1:-}" ]; then
		apt-get update -q >&2 &&
			DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium-headless-shell >&2 &&
			provide_chromium again && return 0
	fi
	note "there is no Chromium, and none could be installed: nobody looks at the page; install chromium, or run this as root on Debian"
}

# nested_modules are the modules of their own in here, but for the tools, and for NVIDIA's binding, which needs a C compiler.
nested_modules() {
	find . -mindepth 2 -name go.mod -not -path './tools/*' -not -path './internal/nvml/*' -exec dirname {} \; | sort
}
