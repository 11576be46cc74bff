#!/bin/bash
# Runs what "render slurm" prints under a real Slurm of one node, which it starts for itself alone: an array of two replicas of a
# real llama-server with a real small model. It needs root, on Debian for what it installs: slurmctld, slurmd, slurm-client (4 MB).
# It takes about 3 minutes, most of them for the time limit of a task.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh

[ "$(id -u)" = 0 ] || { echo "test-slurm.sh: Slurm's daemons want root" >&2; exit 1; }
if ! command -v slurmctld slurmd sbatch >/dev/null; then
	apt-get update -q >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurmctld slurmd slurm-client >&2
fi
provide_llama_server
model=$(scripts/smollm2.sh)
tmp=$(mktemp -d)
host=$(hostname -s)
export SLURM_CONF=$tmp/slurm.conf

finish() {
	status=$?
	scancel --signal=KILL --full --user=root >/dev/null 2>&1 || true
	scancel --user=root >/dev/null 2>&1 || true
	for daemon in ctld d; do
		[ -f "$tmp/$daemon.pid" ] || continue
		pid=$(cat "$tmp/$daemon.pid")
		kill "$pid" 2>/dev/null || true
		for _ in 1 2 3 4 5; do
			kill -0 "$pid" 2>/dev/null && sleep 1 || break
		done
	done
	# Whatever is left of a run that failed names this folder.
	pkill -KILL -f -- "$tmp/job/" 2>/dev/null || true
	[ "$status" -eq 0 ] || tail -n 30 "$tmp"/job/slurm-*.out "$tmp"/log/* >&2 2>/dev/null || true
	rm -rf "$tmp"
	exit "$status"
}
trap finish EXIT

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
pair() { # pair prints a port of which the next one is free as well
	python3 - <<-'EOF'
		import random, socket
		while True:
		    first = random.randrange(20000, 30000)
		    try:
		        for n in (first, first + 1):
		            s = socket.socket(); s.bind(("127.0.0.1", n)); s.close()
		        print(first); break
		    except OSError:
		        pass
	EOF
}
say() { echo "test-slurm: $*"; }
die() { say "FAILED: $*" >&2; exit 1; }
await() { # await SECONDS WHAT COMMAND...
	local left=$1 what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $((left -= 1)) -ge 0 ] || die "$what"
		sleep 1
	done
}
state() { scontrol show job "$1" | sed -n 's/^ *JobState=\([A-Z]*\).*/\1/p'; }
is() { [ "$(state "$1")" = "$2" ]; }
answers() { curl -sf -m 60 "localhost:$1/completion" -d '{"prompt":"Hi","n_predict":2}'; }
long() { curl -s -m 120 "localhost:$1/completion" -d "{\"prompt\":\"Once\",\"n_predict\":$2,\"ignore_eos\":true}" -o "$tmp/answer" -w '%{http_code}'; }
silent() { ! curl -s -m 2 "localhost:$1/health"; }
no_engine() { ! pgrep -f -- "--port $1( |\$)"; }

mkdir -p "$tmp"/{bin,state,spool,log,job}
go build -o "$tmp/bin/engine-provisioner" ./cmd/engine-provisioner
export PATH=$tmp/bin:$PATH
cat >"$SLURM_CONF" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MailProg=/bin/true
KillWait=30
StateSaveLocation=$tmp/state
SlurmdSpoolDir=$tmp/spool
SlurmctldPidFile=$tmp/ctld.pid
SlurmdPidFile=$tmp/d.pid
SlurmctldLogFile=$tmp/log/ctld
SlurmdLogFile=$tmp/log/d
SlurmctldPort=$(port)
SlurmdPort=$(port)
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
EOF
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N "$host"
await 30 "the node is not idle" sh -c 'sinfo -h -o %T | grep -q idle'

cd "$tmp/job"
ln "$model" model.gguf 2>/dev/null || cp "$model" model.gguf
base=$(pair)
cat >pools.yaml <<EOF
pools:
  - id: chat
    engine: llamacpp
    replicas: 2
    port: $base
    gpu: none
    model: {id: model.gguf}
    flags: [--ctx-size, "512", --threads, "1"]
    provisioning: {binary: {path: $ENGINE_PROVISIONER_LLAMA_SERVER}}
EOF
engine-provisioner render slurm --config pools.yaml --time 3m >chat.sbatch
job=$(sbatch --parsable chat.sbatch)
await 60 "r0 does not answer" answers "$base"
await 60 "r1 does not answer" answers $((base + 1))
grep -q "^chat/r0 ready http" "slurm-${job}_0.out" || die "the task's output does not say that it is ready"
say "two tasks are ready, and answer"

code=$(long "$base" 150 &
	sleep 1
	scancel "${job}_0"
	wait %1)
[ "$code" = 200 ] && grep -q '"tokens_predicted":150' "$tmp/answer" || die "the request in flight was answered with $code"
await 30 "the cancelled task does not end" is "${job}_0" CANCELLED
await 10 "an engine outlives its task" no_engine "$base"
say "a task that is cancelled with a request in flight answers it first"

sed 's/model\.gguf/none.gguf/' pools.yaml >bad.yaml
engine-provisioner render slurm --config bad.yaml --memory 300MiB >bad.sbatch
bad=$(sbatch --parsable --array=0 bad.sbatch)
await 60 "a task whose model is missing has not failed" is "${bad}_0" FAILED
grep -q '\[model_missing\]' "slurm-${bad}_0.out" || die "a task whose model is missing does not say so"
say "a start that fails is a task that FAILED, with the cause in its output"

killed=$(sbatch --parsable --array=0 chat.sbatch)
await 60 "the third task does not answer" answers "$base"
scancel --signal=KILL --full "${killed}_0"
await 15 "an engine outlives a task that was killed" no_engine "$base"
await 15 "the port of a task that was killed is not free" silent "$base"
say "a task that is killed leaves no engine behind"

asked=0
handoff=.runtime-slurm/chat-$job-1/engines/chat-r1.json
[ -f "$handoff" ] || die "there is no handoff"
while [ -f "$handoff" ]; do # to the time limit, one request after the other, as a router would that goes by the handoff
	code=$(long $((base + 1)) 40) || true
	[ "$code" = 200 ] || die "a request before the end of the time was answered with $code"
	asked=$((asked + 1))
done
await 30 "the task does not end in its time" is "${job}_1" COMPLETED
grep -q "^chat/r1: stopping (drained in " "slurm-${job}_1.out" || die "the task was not drained before its time was over"
say "a task whose time is over has drained before: $asked requests, each answered"
say "passed in $SECONDS s"
