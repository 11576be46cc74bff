# Every target does its own set-up: what it downloads goes into ~/.cache/engine-provisioner and stays there.
.DEFAULT_GOAL := help
.PHONY: help demo matrix release test-release test test-vllm test-vulkan test-gpu test-source test-containers test-systemd test-slurm test-page cover lint fuzz bench clean chaos

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## start a real engine with a real small model, ask it a question, stop it
	@scripts/demo.sh

test: ## run all tests, those with a real llama-server included, and hold the coverage
	@scripts/test.sh

matrix: ## make the table of docs/matrix.md: which engines have shown what, in tests that run now
	@scripts/matrix.sh

test-vllm: ## run the tests with a real vLLM on the CPU, which the first run installs (7 GB)
	@scripts/test-vllm.sh

test-vulkan: ## run the tests of GPUs with a real llama-server and a GPU in software, Mesa's llvmpipe (90 MB)
	@scripts/test-vulkan.sh

test-gpu: ## hold what is taken for granted about NVIDIA GPUs against a real one (root, nvcc)
	@scripts/test-gpu.sh

cover: test ## show the coverage of each function
	@go tool cover -func=coverage.out

lint: ## check the format, and run vet, staticcheck and golangci-lint
	@scripts/lint.sh

fuzz: ## run each fuzz target for 10 seconds (FUZZTIME=1m for longer)
	@scripts/fuzz.sh

chaos: ## kill managers 5,000 times and more (CHAOS_ROUNDS, CHAOS_CYCLES, CHAOS_REAL, CHAOS_LOAD, CHAOS_MISTAKES)
	@scripts/chaos.sh

test-page: ## look at the page of the HTTP face with a real browser, a headless Chromium (root where it is missing, 100 MB)
	@scripts/test-page.sh

test-source: ## build the real llama.cpp from source, run it and ask it (10 minutes of CPU time), and a file of it with CUDA (570 MB)
	@scripts/test-source.sh

test-containers: ## run the tests of engines in containers, against a Docker and a Podman of their own (root)
	@scripts/test-containers.sh

test-systemd: ## run the systemd unit in a virtual machine that boots Debian's kernel and systemd (root, 4 GB of memory)
	@scripts/test-systemd.sh

test-slurm: ## run what "render slurm" prints under a real Slurm of one node, which it starts for that (root, 3 minutes)
	@scripts/test-slurm.sh

bench: ## measure what it costs, beside a bare starter (ROWS=regexp, SAMPLES=9, PLOT=FILE.svg, PROFILES=FOLDER)
	@scripts/bench.sh

release: ## build what people install: executables, deb, rpm, image, bill of materials, checksums, in dist/
	@scripts/release.sh

test-release: ## build a release twice, compare, install the deb in a clean root and run an engine with it (root)
	@scripts/test-release.sh

clean: ## remove what was built here; the downloads stay
	rm -rf bin demo dist coverage.out
