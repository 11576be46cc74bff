package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/settings"
)

// hide sets secrets as they stand in a manager's environment, some of them the configuration's, and gives what looks for them in
// what a build has seen.
func hide(t *testing.T) (cfg func(ProvisionConfig) ProvisionConfig, look func(file string)) {
	t.Helper()
	secrets := map[string]string{
		"CHAT_APIKEY": "s3cret-1", "DATABASE_URL": "s3cret-2", "DB_PASS": "s3cret-3", "PGPASSWORD": "s3cret-4", "HF_TOKEN": "s3cret-5",
		"CMAKE_LICENSE_KEY": "s3cret-6", "GITHUB_TOKEN": "s3cret-7",
		"CMAKE_DATABASE": "s3cret-8", "DATA_ROOT": "s3cret-9", "PIP_CHAT": "s3cret-10", "UV_CHAT": "s3cret-11",
	}
	for name, value := range secrets {
		t.Setenv(name, value)
	}
	t.Setenv("CFLAGS", "-O1") // what a build is for goes on
	return func(cfg ProvisionConfig) ProvisionConfig {
			cfg.APIKey = &settings.SecretRef{FromEnv: "CHAT_APIKEY"}
			cfg.Env = map[string]settings.EnvValue{}
			for _, name := range []string{"DATABASE_URL", "CMAKE_DATABASE", "DATA_ROOT", "PIP_CHAT", "UV_CHAT"} { // the names of some are on a list
				cfg.Env["MY_"+name] = settings.EnvValue{Secret: &settings.SecretRef{FromEnv: name}}
			}
			return cfg
		}, func(file string) {
			t.Helper()
			seen, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(seen), "CFLAGS=-O1\n") {
				t.Errorf("the build has not seen CFLAGS:\n%s", seen)
			}
			if strings.Contains(string(seen), "s3cret") {
				t.Errorf("the build has seen a secret:\n%s", seen)
			}
		}
}

// A build sees no secret of the configuration, nor any other that is none of its business.
func TestBuildSeesNoSecret(t *testing.T) {
	with, look := hide(t)
	p := newProject(t)
	seen := filepath.Join(t.TempDir(), "seen")
	p.commit(map[string]string{"CMakeLists.txt": projectLists + "execute_process(COMMAND env OUTPUT_FILE " + seen + ")\n"})
	cfg, _ := p.config("main")
	launch, _ := newLaunch(t, with(cfg), WithCacheDir(t.TempDir()))
	if _, err := launch.Prepare(patiently(t)); err != nil {
		t.Fatal(err)
	}
	look(seen)
}

// A package that builds itself sees none either.
func TestInstallSeesNoSecret(t *testing.T) {
	with, look := hide(t)
	for _, installer := range installers(t) {
		t.Run(installer, func(t *testing.T) {
			cfg := packaged(t, installer)
			dir, seen := t.TempDir(), filepath.Join(t.TempDir(), "seen")
			wheel(t, dir, "3.0", enginetest.Install(t, enginetest.Behavior{}))
			backend := `import os, shutil
def get_requires_for_build_wheel(config_settings=None): return []
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open("` + seen + `", "w") as f:
        f.writelines("%s=%s\n" % one for one in os.environ.items())
    name = "tiny_engine-3.0-py3-none-any.whl"
    shutil.copy("` + dir + `/" + name, wheel_directory)
    return name
`
			for name, text := range map[string]string{
				"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n", "backend.py": backend,
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg.Provisioning.Package.Requirements = []string{"tiny-engine @ file://" + dir}
			launch, _ := newLaunch(t, with(cfg), WithCacheDir(t.TempDir()))
			if _, err := launch.Prepare(patiently(t)); err != nil {
				t.Fatal(err)
			}
			look(seen)
		})
	}
}

// A plan names what was set for an engine and does not reach it, and how it does.
func TestPlanNamesWhatIsLeftBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pools.yaml")
	text := "pools: [{id: a, engine: llamacpp, port: 8081, gpu: none, model: {id: m.gguf}, env: {VLLM_USE_V1: \"0\"}, provisioning: {binary: {path: " +
		enginetest.Install(t, enginetest.Behavior{}) + "}}}]\n"
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(filepath.Join(filepath.Dir(file), "m.gguf"), []byte(enginetest.GGUF), 0o600)); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HF_TOKEN": "hf_x", "CUDA_VISIBLE_DEVICES": "7", "LLAMA_ARG_CTX_SIZE": "99", "LLAMA_API_KEY": "k", "LLAMA_ARG_HOST": "::1", "GGML_CUDA_P2P": "1",
		"VLLM_USE_V1": "1", "HF_HOME": "/hf",
	} {
		t.Setenv(name, value)
	}
	plan, err := planOf(bounded(t), config.replica(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	how := map[string]string{}
	for _, v := range plan.LeftBehind {
		how[v.Name] = v.How
	}
	for name, want := range map[string]string{
		"HF_TOKEN":             "env: {HF_TOKEN: {from_env: HF_TOKEN}}",
		"GGML_CUDA_P2P":        "env: {GGML_CUDA_P2P: VALUE}",
		"LLAMA_ARG_CTX_SIZE":   "env: {LLAMA_ARG_CTX_SIZE: VALUE}",
		"LLAMA_ARG_HOST":       `write "host: 127.0.0.1"`,
		"LLAMA_API_KEY":        "api_key:",
		"CUDA_VISIBLE_DEVICES": `"devices"`,
	} {
		if !strings.Contains(how[name], want) {
			t.Errorf("%s: %q, want %q", name, how[name], want)
		}
	}
	for _, name := range []string{"VLLM_USE_V1", "HF_HOME"} {
		if _, told := how[name]; told {
			t.Errorf("%s goes on, and is told as left behind", name)
		}
	}
}

// The hub's token goes to engines that fetch by themselves, and to no other.
func TestHubTokenGoesToWhoFetches(t *testing.T) {
	t.Setenv("HF_TOKEN", "hf_x")
	for name, want := range map[string]bool{"vllm": true, "sglang": true, "tgi": true, "llamacpp": false} {
		o := newOptions(nil)
		e, ok := o.engine(name)
		if !ok {
			t.Fatal(name)
		}
		cfg := ProvisionConfig{Engine: name, Model: settings.Model{ID: "hf:owner/repo"}, GPU: engine.GPUOptional}.WithDefaults()
		spec, err := launchOf(e, cfg, engine.Host{})
		if err != nil {
			t.Fatal(err)
		}
		got := false
		for _, v := range environment(cfg, spec, nil, secrets{}, nil) {
			got = got || v.Name == "HF_TOKEN" && v.value == "hf_x"
		}
		if got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// What one pool of a file reads a secret from, no engine of another pool gets, nor a hook, whatever its name is like.
func TestSecretsOfOtherPoolsStayBehind(t *testing.T) {
	t.Setenv("CUDA_DB", "s3cret")
	config, err := ParseConfig([]byte(`pools:
  - {id: a, engine: llamacpp, port: 8081, model: {id: m.gguf}, env: {DB: {from_env: CUDA_DB}}}
  - {id: b, engine: llamacpp, port: 8082, model: {id: m.gguf}}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"DB", ""} {
		cfg := config.replica(i, 0)
		s, err := readSecrets(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range environment(cfg, engine.LaunchSpec{}, nil, s, nil) {
			if v.value == "s3cret" && v.Name != want {
				t.Errorf("the engine of %s gets %s", cfg.Name(), v.Name)
			}
		}
		for name, value := range environ.Hook(cfg.secretVariables()) {
			if strings.Contains(value, "s3cret") {
				t.Errorf("the hook of %s gets %s", cfg.Name(), name)
			}
		}
	}
}
