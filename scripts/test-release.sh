#!/bin/bash
# Tries a release: builds it twice and compares, installs the deb in a root that has nothing but a minimal Debian (root;
# debootstrap is installed where it is missing), and runs the demo's engine with what was installed there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_llama_server

fail() {
	echo "test-release: $*" >&2
	exit 1
}
[ "$(id -u)" = 0 ] || fail "cannot make a root without root; run it as root"
command -v debootstrap >/dev/null || {
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debootstrap
}
work=$(mktemp -d)
clean_up() {
	local code=$?
	set +e
	umount "$work/root/proc" "$work/root/dev" 2>/dev/null
	rm -rf --one-file-system "$work"
	exit "$code"
}
trap clean_up EXIT

arch=$(go env GOARCH)
git clone --quiet --shared . "$work/source" # both build one commit, whatever is committed meanwhile
for build in first second; do
	RELEASE_ARCHS=$arch RELEASE_DIST="$work/$build" "$work/source/scripts/release.sh"
done
diff -r "$work/first" "$work/second" || fail "two builds of one commit differ"
echo "test-release: two builds are the same"

debootstrap --variant=minbase stable "$work/root" >"$work/debootstrap.log" || {
	tail "$work/debootstrap.log" >&2
	fail "there is no minimal Debian to be had"
}
mount -t proc proc "$work/root/proc"
mount --bind /dev "$work/root/dev"
cp "$work"/first/*.deb "$work/root/tmp/release.deb"
# The real engine and the real model of the demo, under the paths that they have here.
engine=$(dirname "$ENGINE_PROVISIONER_LLAMA_SERVER")
mkdir -p "$work/root$engine"
cp -a "$engine/." "$work/root$engine/"
cp "$(scripts/smollm2.sh)" "$work/root/tmp/model.gguf"
cat >"$work/root/tmp/pools.yaml" <<'POOLS'
pools:
  - id: demo
    engine: llamacpp
    port: PORT
    gpu: none
    model: {id: /tmp/model.gguf}
    provisioning: {mode: binary, binary: {path: SERVER}}
POOLS
cat >"$work/root/tmp/try.sh" <<'TRY'
#!/bin/sh
set -eux
cd /tmp
dpkg --install release.deb
engine-provisioner --version
test -s /usr/lib/systemd/system/engine-provisioner.service
zcat /usr/share/man/man1/engine-provisioner-stop.1.gz | head -n 3
engine-provisioner validate --config pools.yaml
engine-provisioner --config pools.yaml --detach
engine-provisioner status --config pools.yaml
engine-provisioner stop --config pools.yaml
dpkg --remove engine-provisioner
test ! -e /usr/bin/engine-provisioner # the shell remembers what it has run
TRY
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
sed -i "s|PORT|$port|; s|SERVER|$ENGINE_PROVISIONER_LLAMA_SERVER|" "$work/root/tmp/pools.yaml"
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$work/root" sh /tmp/try.sh
# The static executable needs nothing at all: no library, no file of the system.
mkdir "$work/empty"
tar -C "$work/empty" -xzf "$work"/first/*_static.tar.gz engine-provisioner
chroot "$work/empty" /engine-provisioner version | grep ', static' || fail "the static executable does not say so, or does not run"
echo "test-release: the deb was installed in a clean root, and an engine ran there"
