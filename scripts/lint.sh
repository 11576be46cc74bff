#!/bin/sh
# Checks everything that a machine can check without running the code. The tools are pinned in tools/go.mod; the first
# run builds them, which takes some minutes.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

tool() { go tool -modfile=tools/go.mod "$@"; }
step() { echo "lint: $*"; }

step "go mod tidy"
go mod tidy -diff
for module in $(nested_modules); do
	go -C "$module" mod tidy -diff
done
go -C internal/nvml/against mod tidy -diff

step gofumpt
unformatted=$(tool gofumpt -l .)
if [ -n "$unformatted" ]; then
	echo "these files are not formatted; run: go tool -modfile=tools/go.mod gofumpt -w ." >&2
	echo "$unformatted" >&2
	exit 1
fi

step "go vet, as built here and for a system that is not Linux"
go vet ./...
for module in $(nested_modules); do
	go -C "$module" vet ./...
done
CGO_CFLAGS="-O2 -Wno-deprecated-declarations" go -C internal/nvml/against vet ./...
GOOS=darwin CGO_ENABLED=0 go vet ./...

step staticcheck
tool staticcheck ./...

step golangci-lint
tool golangci-lint run ./...

step govulncheck
if ! found=$(go tool -modfile=tools/release.mod govulncheck ./... 2>&1); then
	case $found in
	*"fetching vulnerabilities"*) note "the database of vulnerabilities cannot be reached: nothing was looked for" ;;
	*)
		echo "$found" >&2
		exit 1
		;;
	esac
fi

step "shell scripts"
for script in scripts/*.sh packaging/*.sh .ci/run; do
	case $(head -n 1 "$script") in
	*/bash) bash -n "$script" ;;
	*) sh -n "$script" ;;
	esac
done
if command -v shellcheck >/dev/null 2>&1; then
	shellcheck -x scripts/*.sh packaging/*.sh .ci/run
fi

if command -v promtool >/dev/null 2>&1; then
	step "alert rules"
	promtool check rules contrib/prometheus/alerts.yml
	promtool test rules contrib/prometheus/alerts_test.yml
fi
