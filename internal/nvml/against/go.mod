module github.com/llama-orch/engine-provisioner/internal/nvml/against

go 1.26.0

require (
	github.com/NVIDIA/go-nvml v0.13.4-1
	github.com/llama-orch/engine-provisioner v0.0.0
)

require github.com/ebitengine/purego v0.11.3 // indirect

replace github.com/llama-orch/engine-provisioner => ../../..
