package provisioner

import (
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/proc"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		patterns []string
		name     string
		want     bool
	}{
		{[]string{"PATH"}, "PATH", true},
		{[]string{"PATH"}, "PATH2", false},
		{[]string{"PATH"}, "path", false},
		{[]string{"LC_*"}, "LC_ALL", true},
		{[]string{"LC_*"}, "LC_", true},
		{[]string{"LC_*"}, "LC", false},
		{[]string{"LC_*"}, "XLC_ALL", false},
		{[]string{"*_KEY"}, "HF_KEY", true},
		{[]string{"*_KEY"}, "_KEY", true},
		{[]string{"*_KEY"}, "MONKEY", false},
		{[]string{"*_KEY"}, "HF_KEYS", false},
		{[]string{"A", "B_*"}, "B_C", true},
		{[]string{"A", "B_*"}, "", false},
		{nil, "A", false},
	} {
		if matches(c.patterns, c.name) != c.want {
			t.Errorf("%q, %q: %v", c.patterns, c.name, !c.want)
		}
	}
}

// TestHostEnvironment proves that what would change the engine, or is secret, stays behind.
func TestHostEnvironment(t *testing.T) {
	inherit := map[string]string{
		"PATH": "/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HF_HOME": "/hf", "CUDA_HOME": "/cuda", "OMP_NUM_THREADS": "4",
		"SSL_CERT_FILE": "/cert", "XDG_CACHE_HOME": "/a=b", "NVIDIA_DRIVER_CAPABILITIES": "",
	}
	stay := []string{
		"LLAMA_ARG_PORT", "LLAMA_API_KEY", "VLLM_PORT", "VLLM_API_KEY", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "INVOCATION_ID",
		"HF_TOKEN", "NVIDIA_API_KEY", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
		"LD_PRELOAD", "PYTHONPATH", "XDG_CONFIG_HOME", "TMPDIR", "GGML_BACKEND_PATH", "PASSWORD", proc.MarkEnv,
	}
	for name, value := range inherit {
		t.Setenv(name, value)
	}
	for _, name := range stay {
		t.Setenv(name, "stays-behind")
	}
	got := hostEnvironment()
	for name, value := range inherit {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %q (%v), want %q", name, v, ok, value)
		}
	}
	for name, value := range got {
		if value == "stays-behind" || slices.Contains(stay, name) {
			t.Errorf("%s is inherited", name)
		}
	}
}

// TestEnvironmentLayers proves which layer wins, and that each variable's origin is told.
func TestEnvironmentLayers(t *testing.T) {
	t.Setenv("LANG", "host")
	t.Setenv("TZ", "host")
	plain := func(value string) EnvValue { return EnvValue{Value: value} }
	cfg := ProvisionConfig{
		GPU: GPURequired,
		Env: map[string]EnvValue{
			"LANG": plain("config"), "A": plain("config"), "B": {Secret: &SecretRef{FromEnv: "B"}}, "KEY": plain("config"),
			"CUDA_VISIBLE_DEVICES": plain("config"), "TMPDIR": plain("config"),
		},
	}
	spec := engine.LaunchSpec{Env: map[string]string{"A": "engine", "E": "engine", "TZ": "engine"}, KeyEnv: "KEY"}
	key, token := "the-key", "the-token"
	s := secrets{key: secret{&key}, env: map[string]secret{"B": {&token}}}
	vars := environment(cfg, spec, []engine.GPU{{UUID: "GPU-1"}}, s, ownEnvironment("launch", "/t"))

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

// FuzzMatches holds the two kinds of pattern against what they mean.
func FuzzMatches(f *testing.F) {
	f.Add("HF_", "TOKEN")
	f.Add("", "")
	f.Add("*", "A")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !matches([]string{a + "*"}, a+b) {
			t.Errorf("%q does not begin with %q", a+b, a)
		}
		if !strings.HasSuffix(b, "*") && !matches([]string{"*" + b}, a+b) {
			t.Errorf("%q does not end with %q", a+b, b)
		}
	})
}
