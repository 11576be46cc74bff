#!/bin/sh
# Runs the tests against a real vLLM on the CPU, which scripts/vllm.sh installs, and those of installations with the uv that it
# brings. Arguments go to "go test".
# It takes 3 to 6 minutes, 9 GB of memory and, once, 7 GB on the disk. ENGINE_PROVISIONER_VLLM names another vLLM.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

# A vLLM of one's own was not installed from here.
if [ -n "${ENGINE_PROVISIONER_VLLM:-}" ]; then
	set -- -skip TestRealVLLMInstalled "$@"
else
	dir=${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/vllm
	ENGINE_PROVISIONER_VLLM=$(scripts/vllm.sh "$dir")
	export ENGINE_PROVISIONER_VLLM ENGINE_PROVISIONER_VLLM_POOLS="$dir/pools.yaml" PATH="$PATH:$dir/bin"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'cat "$log"; exit 130' INT
trap 'cat "$log"; exit 143' TERM
# Two at once, as many as two cores can start.
status=0
go test -run '^(TestRealVLLM|TestStartInstalls|TestInstall)' -count=1 -parallel 2 -timeout 30m -p 1 -v "$@" . ./fleet >"$log" 2>&1 || status=$?
grep -v '^=== ' "$log"
count() { grep -c "^--- $1: Test" "$log" || true; }
passed=$(count PASS) failed=$(count FAIL) skipped=$(count SKIP)
echo "tests against a real vLLM: $passed passed, $failed failed, $skipped skipped"
[ "$status" -eq 0 ] || exit "$status"
if [ "$skipped" -gt 0 ] || [ "$passed" -eq 0 ]; then
	echo "no test may be skipped here" >&2
	exit 1
fi
