package provisioner

import (
	"slices"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestEnvironmentLayers proves which layer wins, and that each variable's origin is told.
func TestEnvironmentLayers(t *testing.T) {
	t.Setenv("LANG", "host")
	t.Setenv("TZ", "host")
	plain := func(value string) settings.EnvValue { return settings.EnvValue{Value: value} }
	cfg := ProvisionConfig{
		GPU: engine.GPURequired,
		Env: map[string]settings.EnvValue{
			"LANG": plain("config"), "A": plain("config"), "B": {Secret: &settings.SecretRef{FromEnv: "B"}}, "KEY": plain("config"),
			"CUDA_VISIBLE_DEVICES": plain("config"), "TMPDIR": plain("config"),
		},
	}
	spec := engine.LaunchSpec{Env: map[string]string{"A": "engine", "E": "engine", "TZ": "engine"}, KeyEnv: "KEY"}
	s := secrets{keys: secret.Keys{secret.Of("the-key")}, env: map[string]secret.Text{"B": secret.Of("the-token")}}
	vars := environment(cfg, spec, map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-1"}, s, ownEnvironment("launch", "/t"))

	for _, want := range []string{
		"LANG=config config", "TZ=engine engine", "A=config config", "E=engine engine", "B=the-token config", "KEY=the-key api_key",
		"CUDA_VISIBLE_DEVICES=GPU-1 devices", "TMPDIR=/t provisioner", proc.MarkEnv + "=launch provisioner", "XDG_CONFIG_HOME=/t/config provisioner",
	} {
		if !slices.ContainsFunc(vars, func(v variable) bool { return v.Name+"="+v.value+" "+v.Origin == want }) {
			t.Errorf("no %q", want)
		}
	}
	names := make([]string, len(vars))
	for i, v := range vars {
		names[i] = v.Name
	}
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("not sorted, or twice the same: %q", names)
	}
	list := entries(vars)
	if !slices.Contains(list, "KEY=the-key") || len(list) != len(vars) {
		t.Errorf("entries: %q", list)
	}
	// Without a key its variable is the user's.
	vars = environment(cfg, spec, nil, secrets{}, nil)
	if i := slices.IndexFunc(vars, func(v variable) bool { return v.Name == "KEY" }); i < 0 || vars[i].value != "config" {
		t.Errorf("KEY without a key: %v", vars)
	}
}
