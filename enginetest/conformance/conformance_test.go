package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/enginetest/conformance"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

// mistake names what is wrong with the plug-in of a process.
const mistake = "CONFORMANCE_TEST_MISTAKE"

// plugin is an engine for a web server, with a mistake.
type plugin struct {
	wrong string
	calls *atomic.Int64
	last  *[]string // shared by mistake
}

func (plugin) Name() string { return "plugin" }

func (plugin) Program(engine.Request) engine.Program {
	return engine.Program{Command: "server", Model: engine.ModelAny}
}

func (p plugin) Launch(r engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	spec := engine.LaunchSpec{
		Health: "/health", Grace: 5 * time.Second, Env: map[string]string{},
		Answer:  &engine.AnswerRequest{Path: "/v1/completions", Body: `{"prompt":"Hi","max_tokens":1}`},
		Metrics: &engine.MetricsContract{Path: "/metrics"},
		Gauges:  &engine.Gauges{Path: "/metrics", Names: []string{"server_requests_running", "server_requests_waiting"}},
	}
	key := "api_key"
	switch p.wrong {
	case "answer":
		spec.Answer.Path = "/v1/complete"
	case "gauge":
		spec.Gauges.Names[1] = "server_requests_queued"
	case "memory":
		spec.Env["CALL"] = strconv.FormatInt(p.calls.Add(1), 10)
	case "request":
		if len(r.Flags) > 0 {
			r.Flags[0] = "--changed"
		}
	case "race":
		*p.last = append((*p.last)[:0], r.Host)
	case "environment":
		spec.Env["HOME"] = os.Getenv("HOME")
	case "folder":
		spec.Env["PWD"], _ = os.Getwd()
	case "files":
		if _, err := os.Stat(host.ModelPath); host.ModelPath != "" && err != nil {
			return spec, &engine.ConfigError{Problems: []engine.Problem{{Key: "model.id", Message: "is not there"}}}
		}
	case "key":
		key = ""
	case "type":
		if r.HasKey {
			return spec, errors.New("no key")
		}
	case "lenient":
		r.HasKey = false
	}
	if r.HasKey {
		return spec, &engine.ConfigError{Problems: []engine.Problem{{Key: key, Message: "this server takes none; remove it"}}}
	}
	add := func(flag, value, key string) {
		spec.Flags = append(spec.Flags, engine.Flag{Args: []string{flag, value}, Origin: engine.OriginProvisioner, Key: key})
	}
	add("--model", r.Model.ID, "model.id")
	add("--host", r.Host, "host")
	add("--port", strconv.Itoa(r.Port), "port")
	for i := 0; i+1 < len(r.Flags); i += 2 {
		spec.Flags = append(spec.Flags, engine.Flag{Args: r.Flags[i : i+2], Origin: engine.OriginConfig, Key: fmt.Sprintf("flags[%d]", i)})
	}
	return spec, nil
}

// TestPlugin holds the suite against a plug-in, whose mistake another process may have named.
func TestPlugin(t *testing.T) {
	t.Parallel()
	conformance.Test(t, conformance.Subject{
		Engine: plugin{os.Getenv(mistake), &atomic.Int64{}, new([]string)},
		Wrong:  []func(*engine.Request){func(r *engine.Request) { r.HasKey = true }},
		Gauge:  "server_requests_running", Path: "/v1/completions", Body: `{"prompt":"Hi","max_tokens":1}`,
		Config: func(t testing.TB, pace conformance.Pace) provisioner.ProvisionConfig {
			t.Helper()
			b := enginetest.Behavior{Engine: enginetest.Custom, Speed: 50}
			switch pace {
			case conformance.SlowLoad:
				b.LoadTime = time.Hour
			case conformance.SlowAnswer:
				b.BusyRequests = 2 * time.Second
			}
			dir := t.TempDir()
			return provisioner.ProvisionConfig{
				PoolID: "pool", ReplicaID: "r0", Engine: "plugin", Port: enginetest.FreePort(t, 1), GPU: engine.GPUNone,
				StateDir: filepath.Join(dir, "state"), Dir: dir, Model: settings.Model{ID: "a-model"}, Flags: []string{"--model", "a-model"},
				Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: enginetest.Install(t, b)}},
			}
		},
	})
}

// The suite fails on an engine that is wrong, and says what is.
func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for wrong, want := range map[string]struct{ part, says string }{
		"answer":      {"life", "LaunchSpec.Answer: /v1/complete is no path of completions: it answers 404"},
		"gauge":       {"life", `LaunchSpec.Gauges: /metrics does not have ["server_requests_queued"]`},
		"memory":      {"description", "Launch describes the same request in two ways"},
		"request":     {"description", "Launch changes its request or host"},
		"environment": {"description", "Launch looks at the environment or the working directory"},
		"folder":      {"description", "Launch looks at the environment or the working directory"},
		"files":       {"description", "Launch looks at files"},
		"key":         {"description", "Launch tells a problem without its key"},
		"type":        {"description", "comes back as an *engine.ConfigError"},
		"lenient":     {"description", "Launch takes the request that Wrong[0] makes"},
		"race":        {"description", raceSays},
	} {
		t.Run(wrong, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestPlugin$/^"+want.part+"$", "-test.count=1")
			cmd.Env = append(os.Environ(), mistake+"="+wrong)
			out, err := cmd.CombinedOutput()
			if want.says == "" { // only the race detector sees it
				return
			}
			if err == nil || !strings.Contains(string(out), want.says) {
				t.Errorf("want %q, got %v:\n%s", want.says, err, out)
			}
		})
	}
}
