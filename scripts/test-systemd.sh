#!/bin/bash
# Runs the unit that "render systemd" writes under a real systemd: a virtual machine boots Debian's kernel and this machine's
# own systemd, on top of this machine's files, which it sees read-only and changes in its own memory. It needs root,
# Debian, 4 GB of memory and no KVM, and installs QEMU where it is missing. What the machine does is
# scripts/test-systemd-guest.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh

fail() {
	echo "test-systemd: $*" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || fail "cannot show a machine's files to another without root; run it as root"
missing=
command -v qemu-system-x86_64 >/dev/null || missing="$missing qemu-system-x86"
command -v busybox >/dev/null || missing="$missing busybox-static"
command -v cpio >/dev/null || missing="$missing cpio"
command -v depmod >/dev/null || missing="$missing kmod"
command -v curl >/dev/null || missing="$missing curl"
[ -x /lib/systemd/systemd ] || missing="$missing systemd dbus"
if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || fail "cannot install $missing: there is no apt-get"
	apt-get update -q
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi
provide_llama_server
[ -n "${ENGINE_PROVISIONER_LLAMA_SERVER:-}" ] || fail "there is no real llama-server"

# The kernel is unpacked, not installed.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/engine-provisioner/kernel
if [ ! -d "$cache" ]; then
	package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p' | head -n 1)
	[ -n "$package" ] || fail "cannot find Debian's kernel; run apt-get update"
	rm -rf "$cache.tmp"
	mkdir -p "$cache.tmp/deb"
	(cd "$cache.tmp/deb" && apt-get download -q "$package" 2>&1 | grep -v unsandboxed)
	dpkg-deb -x "$cache.tmp"/deb/*.deb "$cache.tmp/root"
	mv "$cache.tmp/root" "$cache"
	rm -rf "$cache.tmp"
fi

work=$(mktemp -d)
qemu=
clean_up() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
	wait
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The first program of the machine: it puts a file system in memory over that of this machine, and starts systemd there.
mkdir -p "$work"/ramdisk/{bin,modules,proc,host,memory,new} "$work/shared"
version=$(basename "$cache"/lib/modules/*)
cp "$(command -v busybox)" "$work/ramdisk/bin/busybox"
depmod -b "$cache" "$version"
number=10
for module in virtio_pci 9pnet_virtio 9p overlay; do
	line=$(grep "/$module.ko:" "$cache/lib/modules/$version/modules.dep") # its needs, the last one first
	for file in $(echo "${line#*:}" | tr ' ' '\n' | tac) "${line%%:*}"; do
		[ -z "$(find "$work/ramdisk/modules" -name "*-${file##*/}")" ] || continue
		cp "$cache/lib/modules/$version/$file" "$work/ramdisk/modules/$((number++))-${file##*/}"
	done
done
cat >"$work/ramdisk/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
for module in /modules/*; do $b insmod "$module"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host
$b mount -t tmpfs memory /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work new /new
$b mount -t tmpfs tmp /new/tmp
$b mount -t tmpfs tmp /new/var/tmp
$b mkdir -p /new/shared
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none shared /new/shared
$b rm -rf /new/etc/systemd/system/*.wants # nothing of this machine's starts there
$b mkdir /new/etc/systemd/system/multi-user.target.wants
$b cp /new/shared/guest.service /new/etc/systemd/system/
$b ln -s ../guest.service /new/etc/systemd/system/multi-user.target.wants/
$b rm -f /new/.dockerenv # in a container systemd would not read the kernel's command line
$b umount /proc
exec $b switch_root /new /lib/systemd/systemd
INIT
chmod +x "$work/ramdisk/init"
(cd "$work/ramdisk" && find . | cpio --quiet -o -H newc) >"$work/ramdisk.img"

go build -o "$work/shared/engine-provisioner" ./cmd/engine-provisioner
go run ./internal/ggufgen/cmd -o "$work/shared/tiny.gguf"
cp scripts/test-systemd-guest.sh "$work/shared/guest.sh"
cat >"$work/shared/guest.service" <<SERVICE
[Service]
Environment=LLAMA_SERVER=$ENGINE_PROVISIONER_LLAMA_SERVER HOME=/root
ExecStart=/bin/bash /shared/guest.sh
StandardOutput=append:/shared/output
StandardError=inherit
SERVICE
timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nic none -display none -monitor none -no-reboot \
	-serial "file:$work/console" -kernel "$cache"/boot/vmlinuz-* -initrd "$work/ramdisk.img" \
	-append "console=ttyS0 panic=-1 quiet systemd.unit=multi-user.target systemd.journald.forward_to_console=1" \
	-fsdev local,id=host,path=/,security_model=none,multidevs=remap,readonly=on -device virtio-9p-pci,fsdev=host,mount_tag=host \
	-fsdev local,id=shared,path="$work/shared",security_model=none -device virtio-9p-pci,fsdev=shared,mount_tag=shared \
	</dev/null >"$work/qemu" 2>&1 &
qemu=$!
wait $qemu || {
	tail -n 50 "$work/qemu" "$work/console" "$work/shared/output" >&2
	fail "the machine did not run, or not power off; see above"
}
qemu=
cat "$work/shared/output"
# The machine was shut down with a request in flight.
if ! grep -q '^done$' "$work/shared/output" || ! grep -q 'chat/r0: note: 1 request in flight' "$work/console" ||
	! grep -q 'chat/r0: stopped' "$work/console"; then
	tail -n 100 "$work/console" >&2
	fail "failed; see above"
fi
echo "ok  a shutdown waits for what is in flight, and stops the engine"
