#!/bin/sh
# Looks at the page with a real browser, a headless Chromium, which it installs where it is missing and can be had.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_chromium
[ -n "${ENGINE_PROVISIONER_CHROMIUM:-}" ] || exit 0
race=
[ "$(go env CGO_ENABLED)" = 0 ] || race=-race
# shellcheck disable=SC2086
go test $race -count=1 -v -run 'TestPage$' "$@" ./web
