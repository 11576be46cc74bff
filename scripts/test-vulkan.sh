#!/bin/sh
# Runs the tests of GPUs against a real device: a llama-server with the backend for Vulkan, whose GPU is Mesa's llvmpipe, so
# that the machine needs none. scripts/vulkan.sh brings both. Arguments go to "go test".
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

ENGINE_PROVISIONER_VULKAN=$(scripts/vulkan.sh)
export ENGINE_PROVISIONER_VULKAN
# Each engine computes on all cores.
go test -count=1 -parallel 2 -timeout 15m "$@" ./internal/gpu/vulkantest
