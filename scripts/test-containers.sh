#!/bin/bash
# Runs the tests of engines in containers, for real: against a dockerd and a Podman that are started for them alone, with
# folders, sockets and a network of their own. Containers and images of the machine are not touched. It needs root, and
# installs Docker and Podman on Debian and Ubuntu where they are missing; nothing is pulled, as the image is made from the
# unpacked llama-server. Arguments go to "go test", for example: scripts/test-containers.sh -run TestAdoption
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh

fail() {
	echo "test-containers: $*" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || fail "cannot start container runtimes without root; run it as root"

# What a package is needed for stands beside it; one is installed only where that is missing.
missing=
command -v dockerd >/dev/null || missing="$missing docker.io"
command -v runc >/dev/null || missing="$missing runc"              # Podman's default, crun, refuses hybrid control groups
command -v podman >/dev/null || missing="$missing podman conmon"
command -v iptables >/dev/null || missing="$missing iptables"      # Podman publishes ports with it
[ -x /usr/lib/podman/netavark ] || missing="$missing netavark"
command -v catatonit >/dev/null || [ -x /usr/libexec/podman/catatonit ] || missing="$missing catatonit" # Podman's --init
command -v ip >/dev/null || missing="$missing iproute2"
if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || fail "cannot install $missing: there is no apt-get; install Docker and Podman"
	apt-get update -q
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi
provide_llama_server
[ -n "${ENGINE_PROVISIONER_LLAMA_SERVER:-}" ] || fail "there is no real llama-server to put into an image"

# The rest runs in a network of its own: the runtimes' bridges and firewall rules are nobody else's, and go with it. There is
# no way out of it, so what Go has to download is got before.
if [ -z "${ENGINE_PROVISIONER_ALONE:-}" ]; then
	go test -run '^$' ./docker
	ENGINE_PROVISIONER_ALONE=1 exec unshare --net "$PWD/scripts/test-containers.sh" "$@"
fi
ip link set lo up

work=$(mktemp -d /tmp/epc.XXXXXX) # short: sockets lie below it
docker_pid= podman_pid=
podman_here() { podman --root "$work/p" --runroot "$work/pr" --network-config-dir "$work/n" "$@"; }

clean_up() {
	local code=$?
	set +e
	[ "$code" = 0 ] || tail -n 20 "$work"/*.log >&2
	podman_here rm --all --force --time 0 >/dev/null 2>&1
	for pid in $podman_pid $docker_pid; do
		kill "$pid" 2>/dev/null
	done
	wait
	# What the runtimes have left mounted, innermost first.
	awk -v below="$work/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r umount --lazy 2>/dev/null
	rm -rf "$work"
	exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The limits are for machines without CAP_SYS_RESOURCE, where the defaults cannot be raised.
dockerd --data-root "$work/d" --exec-root "$work/e" --pidfile "$work/docker.pid" -H "unix://$work/docker.sock" \
	--default-ulimit nofile=20000:20000 >"$work/dockerd.log" 2>&1 &
docker_pid=$!

cat >"$work/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
CONF
export CONTAINERS_CONF="$work/containers.conf"
mkdir "$work/n"
# Podman reads there whom to trust, which a test of pulls writes.
HOME="$work/home" podman --root "$work/p" --runroot "$work/pr" --network-config-dir "$work/n" \
	system service --time=0 "unix://$work/podman.sock" >"$work/podman.log" 2>&1 &
podman_pid=$!

for name in docker podman; do
	for _ in $(seq 300); do
		[ ! -S "$work/$name.sock" ] || break
		sleep 0.1
	done
	[ -S "$work/$name.sock" ] || fail "$name did not start"
done

export ENGINE_PROVISIONER_PODMAN_HOME="$work/home"
export ENGINE_PROVISIONER_DOCKER="$work/docker.sock" ENGINE_PROVISIONER_PODMAN="$work/podman.sock"
# Each test has two containers at a time, and a load on a busy machine takes its time.
go test -count=1 -parallel 4 -timeout 9m "$@" ./docker
