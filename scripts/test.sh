#!/bin/sh
# Runs all tests. Arguments go to "go test", for example: scripts/test.sh -run TestStop
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_llama_server
provide_llama_builds

floor=85 # percent of the statements of the root and the fleet, by all tests

race=
[ "$(go env CGO_ENABLED)" = 0 ] || race=-race
fresh=
# A cached result says nothing about this machine, and a fixed order hides what one test leaves for another.
[ -z "${CI:-}" ] || fresh='-count=1 -shuffle=on'
# Under nohup SIGHUP is ignored, by all descendants; the tests of SIGHUP need it as it is by default.
default=
if env --default-signal=HUP true 2>/dev/null; then
	default='env --default-signal=HUP'
fi
# go test tells of a package when those before it in the list are done: the quick ones of internal/ first, the root last.
packages=$(go list ./... | sort -r)
# Most tests wait for a process most of the time; one for each core, which is Go's default, leaves the cores idle.
parallel=$(($(getconf _NPROCESSORS_ONLN) * 4))
# The tests of the fleet try what the root does for it, and those of the command what both do. enginetest is among them since a
# test that is run again as an engine says so on its stderr when nothing in it is counted.
module=$(go list -m)
# A tree that was never built is silent for minutes, and so are the largest packages afterwards.
echo "building the tests of $(echo "$packages" | wc -l) packages; each is told when it and those before it are done, the largest, the root, last" >&2
# shellcheck disable=SC2086
$default go test $race $fresh -parallel $parallel -timeout 60m -coverpkg="$module,$module/fleet,$module/enginetest" -coverprofile=coverage.out "$@" $packages

[ $# -eq 0 ] || exit 0 # a part of the tests covers a part
# What the real engine does, with its older builds too.
for build in $(echo "${ENGINE_PROVISIONER_LLAMA_BUILDS:-}" | tr : ' '); do
	echo "the tests of the real llama-server, with ${build%%=*}:" >&2
	# shellcheck disable=SC2086
	ENGINE_PROVISIONER_LLAMA_SERVER=${build#*=} $default go test $race $fresh -parallel "$parallel" -timeout 20m \
		-skip '^TestRealVLLM|^TestRealSource|^TestRealCUDA|^TestRealBuilds' -run '^TestReal' . ./fleet
	# shellcheck disable=SC2086
	ENGINE_PROVISIONER_LLAMA_SERVER=${build#*=} $default go test $race $fresh -parallel "$parallel" -timeout 20m -run '^TestSuite$/^llamacpp,_real' .
done
# Modules of their own are the example of a plug-in, as those of users are, and what parts of ours are held against.
for nested in $(nested_modules); do
	[ "$nested" != ./internal/test/schema ] || continue # TestSchemas has run those
	# shellcheck disable=SC2086
	go -C "$nested" test $race $fresh ./...
done
# So is NVIDIA's own binding, which our calls are held against: it is made with cgo, of a header that calls parts of itself old.
if command -v cc >/dev/null; then
	CGO_CFLAGS="-O2 -Wno-deprecated-declarations" go -C internal/nvml/against test $fresh ./...
fi
# A profile holds a line "file:from,to statements hits" per block.
awk -v module="$module" -v floor=$floor '
	NR > 1 {
		file = substr($1, length(module) + 2)
		if (index(file, "/") && file !~ /^fleet\/[^\/]*$/) next
		statements[$1] = $2
		if ($3 > 0) hit[$1] = 1
	}
	END {
		for (block in statements) {
			all += statements[block]
			if (block in hit) covered += statements[block]
		}
		percent = all ? 100 * covered / all : 0
		printf "coverage of the root and of the fleet: %.1f %% of %d statements (floor %d %%)\n", percent, all, floor
		if (percent < floor) {
			print "the coverage is below the floor; see what is missing with: go tool cover -html=coverage.out"
			exit 1
		}
	}' coverage.out
