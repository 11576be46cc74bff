package environ

import (
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/proc"
)

func TestMatch(t *testing.T) {
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
		if Match(c.patterns, c.name) != c.want {
			t.Errorf("%q, %q: %v", c.patterns, c.name, !c.want)
		}
	}
}

// TestEngine proves that what would change the engine, or is secret, stays behind.
func TestEngine(t *testing.T) {
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
	got := Engine()
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

// FuzzMatch holds the two kinds of pattern against what they mean.
func FuzzMatch(f *testing.F) {
	f.Add("HF_", "TOKEN")
	f.Add("", "")
	f.Add("*", "A")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !Match([]string{a + "*"}, a+b) {
			t.Errorf("%q does not begin with %q", a+b, a)
		}
		if !strings.HasSuffix(b, "*") && !Match([]string{"*" + b}, a+b) {
			t.Errorf("%q does not end with %q", a+b, b)
		}
	})
}
