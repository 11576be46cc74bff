package node

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
	"github.com/llama-orch/engine-provisioner/settings"
)

// pretended is an engine of a program that adds its own.
type pretended struct {
	name    string
	program engine.Program
}

func (p pretended) Name() string { return p.name }

func (p pretended) Program(engine.Request) engine.Program { return p.program }

func (pretended) Launch(engine.Request, engine.Host) (engine.LaunchSpec, error) {
	return engine.LaunchSpec{Health: "/other"}, nil
}

func TestEngines(t *testing.T) {
	bin := t.TempDir()
	llama := filepath.Dir(enginetest.Install(t, enginetest.Behavior{}))
	// It says no version, and would not end if it were asked.
	host.Program(t, filepath.Join(bin, "slow-engine"), "#!/bin/sh\nexec sleep 60\n")
	t.Setenv("PATH", llama+":"+bin+":/usr/bin:/bin")
	// A Python engine takes seconds to say what it is.
	slow := pretended{"slow", engine.Program{Command: "slow-engine", Distribution: "slow", HelpArgs: []string{"--help"}}}
	picky := pretended{"picky", engine.Program{Command: "picky"}}
	byName := map[string]Engine{}
	for _, e := range Engines(t.Context(), provisioner.WithCacheDir(t.TempDir()), provisioner.WithEngine(slow), provisioner.WithEngine(picky)) {
		if _, twice := byName[e.Name]; twice {
			t.Errorf("%s is listed twice", e.Name)
		}
		byName[e.Name] = e
	}
	want := Engine{
		Name: "llamacpp", Command: "llama-server", Binary: filepath.Join(llama, "llama-server"), Version: "b11669-Fake",
		Modes: []string{"binary", "source", "package", "container"}, Model: engine.ModelGGUF, Port: 8080,
		Endpoints: Endpoints{"/health", "/props", "/metrics", "/completion"}, Grace: settings.Duration(5 * time.Second),
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
	if got, want := byName["custom"], (Engine{Name: "custom", Modes: []string{"binary", "source", "package", "container"}, Model: engine.ModelAny}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// An engine that a program adds under the name of a built-in one is the one that is used, and listed.
func TestEnginesReplaced(t *testing.T) {
	t.Parallel()
	infos := Engines(t.Context(), provisioner.WithCacheDir(t.TempDir()), provisioner.WithEngine(pretended{name: "llamacpp"}))
	if infos[0].Name != "llamacpp" || infos[0].Endpoints.Health != "/other" {
		t.Errorf("%+v", infos)
	}
}
