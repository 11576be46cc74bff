#!/bin/sh
# Makes the table of docs/matrix.md: which engines have shown what, in tests that run now. llama-server is run for real, in all
# builds that are tested; vLLM where it is installed (make test-vllm does that), which takes minutes.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_llama_server
provide_llama_builds
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

shown() { # shown EVENTS PATTERN PACKAGE...
	events=$1 pattern=$2
	shift 2
	echo "matrix.sh: $pattern" >&2
	# A test that fails proves nothing, which the table says.
	go test -json -count=1 -timeout 30m -run "$pattern" "$@" >"$work/$events" || echo "matrix.sh: not all of them passed" >&2
	set --
}
shown own '^TestSuite$' .
set -- "$work/own"
for build in $(echo "${ENGINE_PROVISIONER_LLAMA_BUILDS:-}" | tr : ' '); do
	ENGINE_PROVISIONER_LLAMA_SERVER=${build#*=} shown "${build%%=*}" '^TestSuite$/^llamacpp,_real' .
	set -- "$@" "${build%%=*}=$work/${build%%=*}"
done
if [ -e "${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/vllm" ]; then
	ENGINE_PROVISIONER_VLLM=$(scripts/vllm.sh) shown vllm '^TestRealVLLM(Life|Supervised)$' -parallel 1 -p 1 . ./fleet
	set -- "$@" "$work/vllm"
fi
go run ./scripts/matrix -o docs/matrix.md "$@"
