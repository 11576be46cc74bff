#!/bin/sh
# Runs every fuzz target of every package, one after the other, each for FUZZTIME (10s; 30s for models' headers, which come
# from anybody).
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

count=0
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "$package $target"
		case $package in
		*/internal/gguf) default=30s ;;
		*) default=10s ;;
		esac
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-$default}" -fuzzminimizetime 100x "$package"
		count=$((count + 1))
	done
done
echo "$count fuzz targets passed"
