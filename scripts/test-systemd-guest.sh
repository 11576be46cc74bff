# What scripts/test-systemd.sh has its virtual machine do, as root: the steps of the documentation, and what goes wrong.
# shellcheck shell=bash
set -euo pipefail
unit=engine-provisioner state=/var/lib/engine-provisioner

fail() {
	echo "FAILED: $*"
	systemctl status --no-pager $unit || true
	journalctl --no-pager -u $unit -n 100
	systemctl poweroff
	exit 1
}
trap 'fail "line $LINENO"' ERR
await() { # await CONDITION...
	for _ in $(seq 600); do
		! "$@" || return 0
		sleep 0.2
	done
	fail "waited for: $*"
}
manager() { systemctl show -p MainPID --value $unit; }
engine() { engine-provisioner status -o json --state-dir $state | sed -n 's/.*"pid":\([0-9]*\).*/\1/p'; }
replaced() { # replaced OLD-PID; one look, since the state changes between two
	local state
	state=$(systemctl show -p ActiveState -p MainPID $unit)
	grep -qx ActiveState=active <<<"$state" && ! grep -qxE "MainPID=($1|0)" <<<"$state"
}
ready() { engine-provisioner status -o json --state-dir $state | grep -q '"state":"ready"'; }
journal() { journalctl --no-pager -u $unit -o cat | grep -q "$1"; }
says() { echo "ok  $*"; }

uname -sr
systemctl --version | head -n 1
[ "$(cat /proc/1/comm)" = systemd ]
[ -e /sys/fs/cgroup/cgroup.controllers ]

install /shared/engine-provisioner /usr/local/bin/
mkdir /etc/llm
cat >/etc/llm/pools.yaml <<YAML
pools:
  - id: chat
    engine: llamacpp
    port: 8081
    gpu: none
    model: {id: /shared/tiny.gguf}
    flags: [--ctx-size, "262144"]
    drain: {timeout: 5s}
    provisioning: {binary: {path: "$LLAMA_SERVER"}}
YAML
engine-provisioner render systemd --config /etc/llm/pools.yaml >/etc/systemd/system/$unit.service
systemctl daemon-reload
systemctl enable --now $unit
ready
[ "$(systemctl show -p StatusText --value $unit)" = "1 of 1 replicas ready" ]
curl -sf -m 60 http://127.0.0.1:8081/completion -d '{"prompt": "a", "n_predict": 2}' | grep -q content
says "the start returns when the replica is ready"

group=/sys/fs/cgroup/system.slice/$unit.service
grep -qx "$(engine)" $group/engine-chat-r0-*/cgroup.procs
says "the engine has a cgroup of its own"

pid=$(engine) old=$(manager)
kill -KILL "$old"
await replaced "$old"
[ "$(engine)" = "$pid" ]
says "a manager that is killed is started again, and adopts the engine"

old=$(manager)
kill -STOP "$old"
await replaced "$old"
[ "$(engine)" = "$pid" ]
journal "Watchdog timeout"
says "so is one that hangs"

sed -i 's/8081/8082/' /etc/llm/pools.yaml
systemctl reload $unit
[ "$(engine)" != "$pid" ]
curl -sf -m 60 http://127.0.0.1:8082/health >/dev/null
says "a reload applies the changed file"

old=$(manager)
systemctl set-property --runtime $unit MemoryMax=300M
sed -i 's/262144/1048576/' /etc/llm/pools.yaml # four times the context, of which each token takes 512 bytes
if systemctl reload $unit 2>/dev/null; then fail "it had enough memory"; fi
journal "oom_kill rose by [0-9]* in $group/memory.events.*oom_host"
sed -i 's/1048576/262144/' /etc/llm/pools.yaml
await ready
[ "$(manager)" = "$old" ]
says "an engine that the kernel ends for want of memory is told as that, and the settings before come back"

pid=$(engine)
systemctl stop $unit
[ ! -e "/proc/$pid" ]
[ ! -e $group ]
says "a stop leaves nothing"

cp /etc/llm/pools.yaml /etc/llm/good.yaml
echo "    colour: red" >>/etc/llm/pools.yaml
if systemctl start $unit 2>/dev/null; then fail "it started"; fi
[ "$(systemctl show -p ActiveState --value $unit)" = failed ]
[ "$(systemctl show -p NRestarts --value $unit)" = 0 ]
journal 'pools\[0\].colour: unknown key'
says "a wrong configuration is told, and not tried again"

mv /etc/llm/good.yaml /etc/llm/pools.yaml
systemctl reset-failed $unit
systemctl start $unit
curl -sN http://127.0.0.1:8082/completion -d '{"prompt": "a", "n_predict": 100000, "ignore_eos": true, "stream": true}' >/tmp/answer &
await test -s /tmp/answer
echo "done"
systemctl poweroff
