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

// what is set for a test: secrets and settings of all kinds.
var shell = map[string]string{
	"PATH": "/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HF_HOME": "/hf", "CUDA_HOME": "/cuda", "OMP_NUM_THREADS": "4",
	"SSL_CERT_FILE": "/cert", "XDG_CACHE_HOME": "/a=b", "NVIDIA_DRIVER_CAPABILITIES": "", "LD_LIBRARY_PATH": "/opt/lib",
	"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "models.lan", "REQUESTS_CA_BUNDLE": "/ca", "NCCL_DEBUG": "INFO", "ONEAPI_ROOT": "/oneapi",
	"ROCM_PATH": "/rocm", "VK_ICD_FILENAMES": "/icd.json",

	"LLAMA_ARG_PORT": "1", "LLAMA_API_KEY": "k", "VLLM_PORT": "1", "VLLM_API_KEY": "k", "NOTIFY_SOCKET": "/n", "LISTEN_FDS": "1",
	"LISTEN_PID": "1", "INVOCATION_ID": "1", "HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_y", "NVIDIA_API_KEY": "k",
	"CUDA_VISIBLE_DEVICES": "7", "CUDA_DEVICE_ORDER": "x", "HIP_VISIBLE_DEVICES": "7", "ROCR_VISIBLE_DEVICES": "7", "LD_PRELOAD": "/evil.so",
	"PYTHONPATH": "/py", "XDG_CONFIG_HOME": "/config", "TMPDIR": "/t", "GGML_BACKEND_PATH": "/b", "PASSWORD": "p", proc.MarkEnv: "m",

	"CHAT_APIKEY": "k", "DATABASE_URL": "postgres://u:p@h", "DB_PASS": "p", "PGPASSWORD": "p", "CUDA_APIKEY": "k", "CMAKE_TOKEN": "t",
	"CC": "gcc-13", "CFLAGS": "-O2", "CMAKE_PREFIX_PATH": "/opt", "CUDACXX": "/nvcc", "OpenSSL_ROOT": "/ssl", "MAKEFLAGS": "-j9", "DESTDIR": "/d",
	"GIT_DIR": "/g", "GIT_SSH_COMMAND": "ssh -i k", "SSH_AUTH_SOCK": "/s", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
	"GIT_CONFIG_VALUE_0": "Authorization: x", "HF_TOKEN_2": "hf_z", "NVIDIA_REGISTRY_AUTH": "a", "CUDA_DB_DSN": "d", "NIX_GITHUB_PAT": "p", "UV_PUBLISH_TOKEN": "u", "PIP_INDEX_URL": "https://u:p@index.lan", "UV_INDEX_LAN_PASSWORD": "p", "VIRTUAL_ENV": "/v",
}

// has compares what a program gets of the shell with what it should get, and with nothing else.
func has(t *testing.T, got map[string]string, want ...string) {
	t.Helper()
	for name := range shell {
		value, there := got[name]
		switch wanted := slices.Contains(want, name); {
		case wanted && (!there || value != shell[name]):
			t.Errorf("%s is %q (%v), want %q", name, value, there, shell[name])
		case !wanted && there:
			t.Errorf("%s=%q goes on", name, value)
		}
	}
}

func set(t *testing.T) {
	t.Helper()
	for name, value := range shell {
		t.Setenv(name, value)
	}
}

func pairs(list []string) map[string]string {
	env := map[string]string{}
	for _, entry := range list {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	return env
}

// common is what all programs get.
var common = []string{
	"PATH", "LC_ALL", "TZ", "SSL_CERT_FILE", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "HTTPS_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE",
}

// TestEngine proves that what would change the engine, or is secret, stays behind, and what it needs does not.
func TestEngine(t *testing.T) {
	set(t)
	want := append(slices.Clone(common), "HF_HOME", "CUDA_HOME", "OMP_NUM_THREADS", "NVIDIA_DRIVER_CAPABILITIES", "NCCL_DEBUG",
		"ONEAPI_ROOT", "ROCM_PATH", "VK_ICD_FILENAMES")
	has(t, Engine(For{}), want...)
	has(t, Hook(nil), want...)
	has(t, Engine(For{Hub: true}), append(want, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")...)
	has(t, Engine(For{Contained: true}))
	has(t, Engine(For{Contained: true, Hub: true}), "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTPS_PROXY", "no_proxy")
}

// What an engine asks on its own host does not go through a proxy.
func TestLoopbackIsDirect(t *testing.T) {
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"} {
		t.Setenv(name, "")
	}
	for _, c := range []struct{ proxy, direct, want string }{
		{"HTTP_PROXY", "", "localhost,127.0.0.1,::1"},
		{"all_proxy", "lan,127.0.0.1", "lan,127.0.0.1,localhost,::1"},
		{"http_proxy", "*", "*"},
		{"HTTPS_PROXY", "lan", "lan"}, // nobody asks loopback by https
	} {
		t.Run(c.proxy, func(t *testing.T) {
			t.Setenv(c.proxy, "http://proxy:3128")
			t.Setenv("NO_PROXY", c.direct)
			if got := Engine(For{})["NO_PROXY"]; got != c.want {
				t.Errorf("NO_PROXY=%q, want %q", got, c.want)
			}
		})
	}
}

// TestTools proves that nothing that a tool is not for reaches it.
func TestTools(t *testing.T) {
	set(t)
	paths := append(slices.Clone(common), "TMPDIR", "XDG_CONFIG_HOME")
	ssh := []string{"GIT_SSH_COMMAND", "SSH_AUTH_SOCK"}
	makers := []string{"CC", "CFLAGS", "CMAKE_PREFIX_PATH", "CUDACXX", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCM_PATH", "ONEAPI_ROOT", "OpenSSL_ROOT", "HIP_VISIBLE_DEVICES"}
	has(t, pairs(Tools(Git, nil)), slices.Concat(paths, ssh, []string{"GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"})...)
	has(t, pairs(Tools(Build, nil)), slices.Concat(paths, makers)...)
	has(t, pairs(Tools(Install, nil)), slices.Concat(paths, ssh, makers, []string{"PIP_INDEX_URL", "UV_INDEX_LAN_PASSWORD"})...)
}

func TestLeftBehind(t *testing.T) {
	set(t)
	got := LeftBehind(func(name string) bool { _, ok := Engine(For{})[name]; return ok })
	for _, name := range []string{"LLAMA_ARG_PORT", "VLLM_PORT", "HF_TOKEN", "CUDA_VISIBLE_DEVICES", "PYTHONPATH", "LD_PRELOAD", "GGML_BACKEND_PATH", "NVIDIA_API_KEY"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not told: %q", name, got)
		}
	}
	for _, name := range []string{"PATH", "HF_HOME", "CHAT_APIKEY", "GIT_DIR", "NOTIFY_SOCKET"} {
		if slices.Contains(got, name) {
			t.Errorf("%s is told, and no engine heeds it or it goes on", name)
		}
	}
	if !slices.IsSorted(got) {
		t.Errorf("%q", got)
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

// What a name says is a secret, and what only says where one is.
func TestSecret(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"HF_TOKEN", "HF_TOKEN_2", "hf_token", "OPENAI_APIKEY", "API_KEYS", "PGPASSWORD", "DB_PASS", "DB_PWD", "GITHUB_PAT", "SENTRY_DSN", "NPM_AUTH",
		"AWS_SECRET_ACCESS_KEY", "GOOGLE_CREDENTIALS", "CITOKEN", "TOKEN",
	} {
		if !Secret(name) {
			t.Errorf("%s is none", name)
		}
	}
	for _, name := range []string{
		"PATH", "HF_HOME", "HF_TOKEN_PATH", "SSL_KEY_FILE", "TOKENIZERS_PARALLELISM", "MONKEY", "KEYBOARD", "CUDA_COMPAT", "OMP_NUM_THREADS", "PASSAGE", "",
	} {
		if Secret(name) {
			t.Errorf("%s is one", name)
		}
	}
}

// What the configuration reads a secret from goes to nobody because of a pattern that it happens to match; what is named in full
// goes on, since the configuration may name a proxy, or the token of the hub, for one engine.
func TestSecretsOfTheConfiguration(t *testing.T) {
	named := map[string]string{"CUDA_DB": "s", "HF_CHAT": "s", "CMAKE_URL": "s", "LICENSE_ROOT": "s", "PIP_LICENSE": "s", "UV_CHAT": "s", "GIT_HTTP_CHAT": "s", "LC_CHAT": "s"}
	full := map[string]string{"HTTPS_PROXY": "http://u:p@proxy", "HF_TOKEN": "hf_x"}
	var secrets Secrets
	for _, all := range []map[string]string{named, full} {
		for name, value := range all {
			t.Setenv(name, value)
			secrets = append(secrets, name)
		}
	}
	for who, got := range map[string]map[string]string{
		"engine": Engine(For{Hub: true, Secrets: secrets}), "container": Engine(For{Hub: true, Contained: true, Secrets: secrets}), "hook": Hook(secrets),
		"git": pairs(Tools(Git, secrets)), "build": pairs(Tools(Build, secrets)), "install": pairs(Tools(Install, secrets)),
	} {
		for name := range named {
			if _, there := got[name]; there {
				t.Errorf("%s gets %s", who, name)
			}
		}
		if who != "container" && got["HTTPS_PROXY"] == "" {
			t.Errorf("%s does not get the proxy", who)
		}
		if _, there := got["HF_TOKEN"]; there != (who == "engine" || who == "container") {
			t.Errorf("%s, the token of the hub: %v", who, there)
		}
	}
	if got := pairs(Tools(Install, nil)); got["PIP_LICENSE"] == "" || got["LICENSE_ROOT"] == "" {
		t.Errorf("without a configuration that names them they go on, so this shows nothing: %v", got)
	}
}
