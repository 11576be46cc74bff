package provisioner

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// slowEngine is like a Python engine, which takes seconds to say what it is.
type slowEngine struct{ custom }

func (slowEngine) Name() string { return "slow" }
func (slowEngine) Program(engine.Request) engine.Program {
	return engine.Program{Command: "slow-engine", Distribution: "slow", HelpArgs: []string{"--help"}}
}

func TestEngines(t *testing.T) {
	bin := t.TempDir()
	llama := filepath.Dir(enginetest.Install(t, enginetest.Behavior{}))
	// It says no version, and would not end if it were asked.
	writeProgram(t, filepath.Join(bin, "slow-engine"), "#!/bin/sh\nexec sleep 60\n")
	t.Setenv("PATH", llama+":"+bin+":/usr/bin:/bin")
	byName := map[string]EngineInfo{}
	for _, e := range Engines(bounded(t), WithCacheDir(t.TempDir()), WithEngine(slowEngine{}), WithEngine(pickyEngine{})) {
		if _, twice := byName[e.Name]; twice {
			t.Errorf("%s is listed twice", e.Name)
		}
		byName[e.Name] = e
	}
	want := EngineInfo{
		Name: "llamacpp", Command: "llama-server", Binary: filepath.Join(llama, "llama-server"), Version: "b11669-Fake",
		Modes: []string{"binary", "source", "package", "container"}, Model: engine.ModelGGUF, Port: 8080,
		Endpoints: Endpoints{"/health", "/props", "/metrics", "/completion"}, Grace: Duration(5 * time.Second),
	}
	if got := byName["llamacpp"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := byName["slow"]; got.Binary != filepath.Join(bin, "slow-engine") || got.Version != "" || got.Problem != "" {
		t.Errorf("%+v", got)
	}
	if got := byName["picky"]; got.Binary != "" || !strings.Contains(got.Problem, `no executable "picky" in PATH`) {
		t.Errorf("%+v", got)
	}
	for engine, modes := range map[string]string{
		"vllm": "binary,package,container", "sglang": "binary,package,container", "tgi": "binary,container",
		"slow": "binary,source,package,container", // an engine that says nothing
	} {
		if got := strings.Join(byName[engine].Modes, ","); got != modes {
			t.Errorf("%s has the modes %s, want %s", engine, got, modes)
		}
	}
	if got, want := byName["custom"], (EngineInfo{Name: "custom", Modes: []string{"binary", "source", "package", "container"}, Model: engine.ModelAny}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// An engine that a program adds under the name of a built-in one is the one that is used, and listed.
func TestEnginesReplaced(t *testing.T) {
	t.Parallel()
	infos := Engines(bounded(t), WithCacheDir(t.TempDir()), WithEngine(otherLlama{}))
	if infos[0].Name != "llamacpp" || infos[0].Endpoints.Health != "/other" {
		t.Errorf("%+v", infos)
	}
}

type otherLlama struct{ llamacpp.Engine }

func (otherLlama) Launch(engine.Request, engine.Host) (engine.LaunchSpec, error) {
	return engine.LaunchSpec{Health: "/other"}, nil
}

// What an engine says is told without a host; who asks for one that does not exist is told what there is.
func TestDescribe(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{PoolID: "p", ReplicaID: "r0", Engine: "vllm", Port: 8081, Model: ModelConfig{ID: "hf:owner/model"}}
	program, spec, err := cfg.Describe()
	if err != nil || program.Command != "vllm" || spec.Health != "/health" || spec.Grace <= 0 {
		t.Errorf("%+v, %+v (%v)", program, spec, err)
	}
	cfg.Engine = "vlllm"
	_, _, err = cfg.Describe()
	wantText(t, err, "vlllm", "vllm")
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	const text = "pools:\n  - {id: chat, engine: llamacpp, port: 8081, model: {id: /models/chat.gguf}}\n"
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"": "", "/etc/llm/pools.yaml": "/etc/llm/pools.yaml", "pools.yaml": filepath.Join(here, "pools.yaml")} {
		c, err := ParseConfig([]byte(text), file)
		if err != nil || c.File() != want {
			t.Errorf("%q: %q (%v), want %q", file, c.File(), err, want)
		}
	}
	if got := (&Config{}).File(); got != "" {
		t.Errorf("a configuration from Go: %q", got)
	}
}
