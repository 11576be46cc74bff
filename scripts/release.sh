#!/bin/bash
# Builds what people install, in dist/: executables, deb, rpm and image archive for amd64 and arm64, a bill of materials for
# each, and checksums. What is built is the commit, from a clone: what was not committed is not in it, and the same commit
# gives the same bytes, in whatever folder. RELEASE_ARCHS=amd64 builds for less; RELEASE_DIST names another folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh

tool() { go tool -modfile=tools/release.mod "$@"; }
step() { echo "release: $*"; }

dist=${RELEASE_DIST:-dist}
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf "$dist"
mkdir -p "$dist"
dist=$(cd "$dist" && pwd) # absolute
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet --shared . "$work/source"
cd "$work/source"

step "man pages, completions and the systemd unit"
mkdir -p "$work/man" "$work/completion" "$work/root/etc/engine-provisioner"
ENGINE_PROVISIONER_MAN="$work/man" go test -count=1 -run '^TestManPages$' ./cmd/engine-provisioner >/dev/null
gzip --best --no-name "$work"/man/*.1
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/root/engine-provisioner" ./cmd/engine-provisioner
for shell in bash zsh fish; do
	"$work/root/engine-provisioner" completion "$shell" >"$work/completion/$shell"
done
# The unit is the one that "render systemd" prints, for a file that is not known yet: nothing is derived from it.
cp packaging/pools.yaml "$work/root/etc/engine-provisioner/"
(cd "$work/root" && ./engine-provisioner render systemd --config etc/engine-provisioner/pools.yaml) |
	sed -e "s|$work/root/engine-provisioner|/usr/bin/engine-provisioner|g" -e "s|$work/root||g" \
		-e 's|^TimeoutStartSec=.*|TimeoutStartSec=infinity|' \
		-e '/^# Models may be on disks/d' -e '/^RequiresMountsFor=/d' \
		-e 's|^\[Unit\]$|&\nConditionPathExists=/etc/engine-provisioner/pools.yaml|' >"$work/engine-provisioner.service"
if grep -q "$work" "$work/engine-provisioner.service"; then
	echo "release: the unit names a folder of this build" >&2
	exit 1
fi

for arch in ${RELEASE_ARCHS:-amd64 arm64}; do
	step "$arch"
	files="$work/$arch"
	mkdir -p "$files/static"
	cp -r "$work/man" "$work/completion" "$work/engine-provisioner.service" "$files/"
	build() { # build OUTPUT ARG...; with the version that Go reads from git
		local out=$1
		shift
		CGO_ENABLED=0 GOARCH=$arch go build -buildvcs=true -trimpath -ldflags '-s -w' "$@" -o "$out" ./cmd/engine-provisioner
	}
	build "$files/engine-provisioner"
	# Without NVIDIA's library there is nothing that needs a C library: for musl, old systems, and an image that holds nothing else.
	build "$files/static/engine-provisioner" -tags static
	VERSION=$(go version -m "$files/engine-provisioner" | awk '$1 == "mod" { print $3 }')
	VERSION=${VERSION#v}
	name=engine-provisioner_${VERSION}_linux_$arch
	archive() { # archive NAME FOLDER FILE...
		local out="$dist/$1.tar.gz"
		tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=go=rX,u+rw,a-s \
			-C "$2" -cf - "${@:3}" | gzip --best --no-name >"$out"
	}
	archive "$name" "$files" engine-provisioner man completion engine-provisioner.service
	cp -r "$files/man" "$files/completion" "$files/engine-provisioner.service" "$files/static/"
	archive "${name}_static" "$files/static" engine-provisioner man completion engine-provisioner.service
	find "$files" packaging LICENSE CHANGELOG.md -exec touch --date="@$SOURCE_DATE_EPOCH" {} +
	for packager in deb rpm; do
		ARCH=$arch VERSION=$VERSION FILES=$files tool nfpm package --config packaging/nfpm.yaml --packager $packager --target "$dist/" >/dev/null
	done
	go run ./scripts/image -executable "$files/static/engine-provisioner" -name "engine-provisioner:${VERSION//+/-}" -arch "$arch" \
		-date "$SOURCE_DATE_EPOCH" -o "$work/image.tar"
	gzip --best --no-name <"$work/image.tar" >"$dist/engine-provisioner_${VERSION}_image_$arch.tar.gz"
	tool cyclonedx-gomod bin -json -noserial -version "v$VERSION" "$files/engine-provisioner" 2>/dev/null |
		sed "s|\"timestamp\": \"[^\"]*\"|\"timestamp\": \"$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)\"|" >"$dist/$name.cdx.json"
done

(cd "$dist" && sha256sum -- * >SHA256SUMS)
ls -l "$dist"
