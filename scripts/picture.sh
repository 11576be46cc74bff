#!/bin/bash
# Takes docs/page.png, a picture of the page: replicas of a real small model under load, one of which is killed on the way.
#
#	SECONDS_OF_LOAD=240 PICTURE_FILE=docs/page.png scripts/picture.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
provide_llama_server
provide_chromium
scripts/smollm2.sh

seconds=${SECONDS_OF_LOAD:-240}
dir=$(mktemp -d)
pids=()
finish() {
	kill "${pids[@]}" 2>/dev/null || true
	wait
	rm -rf "$dir"
}
trap finish EXIT

cp "${XDG_CACHE_HOME:-$HOME/.cache}"/engine-provisioner/models/SmolLM2-135M-Instruct.Q4_1.gguf "$dir/"
go build -o "$dir/engine-provisioner" ./cmd/engine-provisioner
cat >"$dir/pools.yaml" <<POOLS
pools:
  - id: chat
    engine: llamacpp
    replicas: 2
    port: 18301
    model: {id: SmolLM2-135M-Instruct.Q4_1.gguf}
    flags: [--ctx-size, "2048", --threads, "1", --parallel, "2"]
    gpu: none
    provisioning: {binary: {path: $ENGINE_PROVISIONER_LLAMA_SERVER}}
  - id: embed
    engine: llamacpp
    port: 18311
    model: {id: SmolLM2-135M-Instruct.Q4_1.gguf}
    flags: [--embedding, --threads, "1"]
    gpu: none
    provisioning: {binary: {path: $ENGINE_PROVISIONER_LLAMA_SERVER}}
POOLS
cd "$dir"
./engine-provisioner -c pools.yaml --http-addr 127.0.0.1:18300 2>err &
pids+=($!)
until ./engine-provisioner status -c pools.yaml --check 2>/dev/null; do sleep 1; done
ask() { # ask PORT TOKENS: one after the other
	while :; do
		curl -sf -o /dev/null "localhost:$1/v1/chat/completions" -H 'Content-Type: application/json' \
			-d "{\"max_tokens\":$2,\"messages\":[{\"role\":\"user\",\"content\":\"Tell me a story.\"}]}" || sleep 1
		sleep 0.$((RANDOM % 9))
	done
}
for port in 18301 18301 18302; do
	ask $port $((40 + RANDOM % 60)) &
	pids+=($!)
done
curl -s localhost:18300/usage >/dev/null # it is measured from now on
sleep $((seconds / 2))
curl -s localhost:18300/usage >/dev/null
pid=$(./engine-provisioner status -c pools.yaml --output json chat/r1 | sed 's/.*"pid":\([0-9]*\).*/\1/')
kill -KILL "$pid"
sleep $((seconds / 2))
cd - >/dev/null
PICTURE_URL=http://127.0.0.1:18300/ PICTURE_FILE=${PICTURE_FILE:-$PWD/docs/page.png} go test -count=1 -run 'TestPagePicture$' ./web
