package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/hfgen"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
	"github.com/llama-orch/engine-provisioner/settings"
)

// modelFolder is a whole model, spread over two files.
func modelFolder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := hfgen.Write(dir, hfgen.Params{Shards: 2}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What it checks is checked before a start, for an engine that serves folders and for no other.
func TestStartChecksTheModelFolder(t *testing.T) {
	t.Parallel()
	cfg := fakeVLLM(t)
	cfg.Flags = []string{"--max-model-len", "4k"}
	var start *StartError
	if _, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir())); !errors.As(err, &start) || start.Cause != engine.CauseBadFlag || start.Retry {
		t.Errorf("a long context: %v", err)
	}
	cfg.Env = map[string]settings.EnvValue{"VLLM_ALLOW_LONG_MAX_MODEL_LEN": {Value: "1"}}
	if _, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir())); err != nil {
		t.Errorf("a long context that is allowed: %v", err)
	}
	if err := os.Truncate(filepath.Join(cfg.Model.ID, "model-00001-of-00002.safetensors"), 100); err != nil {
		t.Fatal(err)
	}
	p, _ := newLaunch(t, cfg)
	if err := p.Start(bounded(t)); !errors.As(err, &start) || start.Cause != engine.CauseModelCorrupt || start.Retry {
		t.Errorf("a broken file: %v", err)
	}
}

// A model whose configuration or weights are elsewhere is left to the engine.
func TestSpecialModel(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]bool{
		"--hf-config-path=/elsewhere": true, "--load_format=dummy": true, "--config-format=hf": true, "--model-impl=auto": false,
	} {
		cfg := ProvisionConfig{Engine: "vllm", Port: 1, Model: settings.Model{ID: "/m"}, Flags: []string{flag}}
		spec, err := launchOf(vllm.Engine{}, cfg, engine.Host{})
		if err != nil || spec.SpecialModel != want {
			t.Errorf("%s: %v, want %v (%v)", flag, spec.SpecialModel, want, err)
		}
	}
}

// Whoever knows vLLM writes its name of a repository, which here is a path.
func TestMissingModelMayBeARepository(t *testing.T) {
	t.Parallel()
	cfg := fakeVLLM(t)
	for id, want := range map[string]bool{"Qwen/Qwen3-8B": true, "./Qwen/Qwen3-8B": false, "local:Qwen/Qwen3-8B": false} {
		cfg.Model.ID = id
		_, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir()))
		var start *StartError
		if !errors.As(err, &start) || start.Cause != engine.CauseModelMissing || strings.Contains(err.Error(), `or write "hf:Qwen/Qwen3-8B"`) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// fakeVLLM is a replica of vLLM as pip installs it, as far as it is looked at before it runs.
func fakeVLLM(t testing.TB) ProvisionConfig {
	t.Helper()
	dir := t.TempDir()
	host.Program(t, filepath.Join(dir, "venv/bin/vllm"), "#!/bin/sh\nexit 1\n")
	host.Distribution(t, filepath.Join(dir, "venv"), "vllm", "0.32.0+cpu")
	return ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "vllm", Port: 1, Model: settings.Model{ID: modelFolder(t)}, GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: filepath.Join(dir, "venv/bin/vllm")}},
	}
}
