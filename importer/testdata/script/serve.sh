#!/usr/bin/env bash
set -euo pipefail
# Serves the coder.
MODEL_DIR="${MODEL_DIR:-/srv/models}"
MODEL="$MODEL_DIR/coder-Q4_K_M.gguf"
PORT=${PORT:-8012}
export CUDA_VISIBLE_DEVICES="0,1"
export HF_TOKEN=hf_hunter2hunter2hunter2
API_KEY=hunter2hunter2
ARGS=(--ctx-size 16384 --flash-attn on)
if [[ "${DEBUG:-0}" == 1 ]]; then
  ARGS+=(--verbose)
fi
curl -H "Authorization: Bearer $API_KEY" http://localhost/warm
cd /opt/llama.cpp
exec nice -n 5 ./build/bin/llama-server \
  -m "$MODEL" --port "$PORT" --host 127.0.0.1 \
  "${ARGS[@]}" --api-key "$API_KEY" --threads "$(nproc)" "$@" 2>&1 | tee -a /var/log/llama.log
