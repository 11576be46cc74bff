#!/bin/bash
# Shows the whole job: a real engine with a real small model is started, handed off, asked and stopped. Whatever
# cannot be had on this machine is replaced by the next best, and said. It all lies in ./demo, and stays there to be tried.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh

SECONDS=0
question="What is the capital of France?"
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || step() { printf '\n== %s\n' "$*"; }
fail() {
	echo "demo: $*" >&2
	exit 1
}

work=$PWD/demo
if [ -x "$work/engine-provisioner" ] && (cd "$work" && ./engine-provisioner status --check) 2>/dev/null; then
	fail "it runs already, in ./demo; stop it first: (cd demo && ./engine-provisioner stop)"
fi
mkdir -p "$work"
pid=
clean_up() {
	status=$?
	# The second signal shortens the engine's grace, the third is for a provisioner that hangs.
	for signal in INT INT KILL; do
		[ -n "$pid" ] && kill -"$signal" "$pid" 2>/dev/null || break
		for _ in {1..80}; do
			kill -0 "$pid" 2>/dev/null || break 2
			sleep 0.1
		done
	done
	if [ $status -ne 0 ]; then
		for log in "$work"/.runtime/*/logs/*.log; do
			[ ! -f "$log" ] || { echo "the end of $log:" && tail -n 15 "$log"; } >&2
		done
		echo "demo: failed; configuration, state and logs are in ./demo" >&2
	fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step "Engine and model"
if [ -n "${ENGINE_PROVISIONER_LLAMA_SERVER:-}" ]; then
	server=$ENGINE_PROVISIONER_LLAMA_SERVER
elif server=$(scripts/llama-server.sh); then
	:
elif server=$(command -v llama-server); then
	note "using the llama-server in PATH"
else
	note "using the fake engine of the tests, which gives every question the same answer"
	server=$work/llama-server
	go build -o "$server" ./enginetest/fakeengine
fi
if ! model=$(scripts/smollm2.sh); then
	note "using a tiny model with random weights: its answer will be noise"
	model=$work/tiny.gguf
	go run ./internal/ggufgen/cmd -o "$model"
fi
echo "engine: $server"
echo "model:  $model"

step "Build bin/engine-provisioner"
go build -o bin/ ./cmd/engine-provisioner
ln -sf ../bin/engine-provisioner "$work/"
[ "$model" -ef "$work/${model##*/}" ] || ln -sf "$model" "$work/"
echo "built in $SECONDS s so far"

# The example as it stands, but for this machine's executable and a port that nobody listens on.
port=8081
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
	port=$((port + 1))
done
text=$(<examples/demo.yaml)
text=${text/'port: 8081'/"port: $port"}
text=${text/'SmolLM2-135M-Instruct.Q4_1.gguf'/"${model##*/}"}
text=${text/'path: llama-server'/"path: \"$server\""}
printf '%s\n' "$text" >"$work/pools.yaml"

step "cd demo; cat pools.yaml"
cd "$work"
cat pools.yaml

step "./engine-provisioner"
# Job control, because without it the shell starts what is in the background with SIGINT ignored.
set -m
./engine-provisioner &
pid=$!
set +m
handoff=$work/.runtime/engines/demo-r0.json
deadline=$((SECONDS + 120))
until [ -f "$handoff" ]; do
	kill -0 "$pid" 2>/dev/null || { wait "$pid" || fail "engine-provisioner ended with exit status $?"; }
	[ $SECONDS -lt $deadline ] || fail "the engine is not ready after two minutes"
	sleep 0.05
done

step "cat ${handoff#"$work"/}, the handoff file"
cat "$handoff"

step "./engine-provisioner ask \"$question\""
# With the system prompt of its own template the small model rambles in French.
./engine-provisioner ask --system "You are a helpful assistant." --max-tokens 48 --temperature 0 "$question"

step "Ctrl-C"
kill -INT "$pid"
status=0
wait "$pid" || status=$?
pid=
[ $status -eq 0 ] || fail "engine-provisioner ended with exit status $status, want 0"
[ ! -e "$handoff" ] || fail "the handoff file is still there"
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
	fail "something still listens on port $port"
fi
echo "stopped: the engine is gone, its port is free, and the handoff file is removed"
printf '\nThe demo took %s s.\n' "$SECONDS"

step "Now try"
cat <<'TRY'
cd demo                                        # the command, the model and pools.yaml are there
./engine-provisioner --http-addr :9464 &       # the same again, with a page: http://127.0.0.1:9464/
./engine-provisioner ask --max-tokens 60 "Tell me a short story"
./engine-provisioner status
./engine-provisioner stop
TRY
