// Package enginetable holds what an engine says of its launches against files beside it: launches, refusals, and the causes of
// recorded logs. It also knows hosts on which an engine is installed whose help was recorded.
//
// Tests of engines call it, and tests that need a launch of a known engine. Nothing else does.
package enginetable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/lastwords"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
)

// Engine is provisioner.Engine, as far as tables need it.
type Engine interface {
	Launch(engine.Request, engine.Host) (engine.LaunchSpec, error)
}

// EngineWithFlags is provisioner.EngineWithFlags likewise.
type EngineWithFlags interface {
	Engine
	Dialect() *flagline.Dialect
}

// Case is a request and a host, whose launch a golden file holds.
type Case struct {
	Name   string
	Model  string // "local:/models/chat" when left out
	Flags  []string
	Env    map[string]string
	Host   engine.Host
	Change func(*engine.Request) // what else is different
}

// Request is what the configuration of the case asks an engine for.
func (c Case) Request() engine.Request {
	r := engine.Request{
		Model: engine.Model{ID: "local:/models/chat"}, Host: "127.0.0.1", Port: 8081, Flags: c.Flags, Env: map[string]string{},
		GPU: engine.GPURequired, DrainTimeout: 30 * time.Second,
	}
	if c.Env != nil {
		r.Env = c.Env
	}
	if c.Model != "" {
		r.Model.ID = c.Model
	}
	if name, revision, hub := models.HubName(r.Model.ID); hub {
		r.Model.Repository, r.Model.Revision = name, revision
	}
	if c.Change != nil {
		c.Change(&r)
	}
	return r
}

// Launches compares the launches of an engine with testdata/launches/NAME.txt.
func Launches(t *testing.T, e Engine, cases []Case) {
	t.Helper()
	run(t, cases, "testdata/launches", func(t *testing.T, c Case) string {
		t.Helper()
		spec, err := e.Launch(c.Request(), c.Host)
		if err != nil {
			t.Fatal(err)
		}
		return text(spec)
	})
}

// Refusals compares the errors of an engine with testdata/badflags/NAME.txt. None may tell "s3cret".
func Refusals(t *testing.T, e Engine, cases []Case) {
	t.Helper()
	run(t, cases, "testdata/badflags", func(t *testing.T, c Case) string {
		t.Helper()
		_, err := e.Launch(c.Request(), c.Host)
		if _, ok := errors.AsType[*engine.ConfigError](err); !ok {
			t.Fatalf("got %v, want a *ConfigError", err)
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the message tells a secret: %v", err)
		}
		return err.Error() + "\n"
	})
}

func run(t *testing.T, cases []Case, dir string, got func(*testing.T, Case) string) {
	t.Helper()
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = c.Name
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			golden.Check(t, filepath.Join(dir, c.Name+".txt"), got(t, c))
		})
	}
	golden.AllUsed(t, filepath.Join(dir, "*.txt"), names)
}

// text is a launch for people: what it runs and how it is questioned.
func text(spec engine.LaunchSpec) string {
	var b strings.Builder
	for _, f := range spec.Flags {
		line := fmt.Sprintf("%-55s %-12s %-14s %s", strings.Join(f.Args, " "), f.Origin, f.Key, f.Note)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	b.WriteString("\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("env", "%v, key in %q", spec.Env, spec.KeyEnv)
	line("health", "%s, takes %s", spec.Health, spec.HealthTakes)
	line("version", "%s %s", spec.Version.Path, spec.Version.Key)
	line("model", "%s %s", spec.Model.Path, spec.Model.Key)
	line("ports", "%v", spec.Ports)
	line("context", "%d", spec.Context)
	if spec.Metrics != nil {
		line("metrics", "%s %s", spec.Metrics.Path, strings.Join(spec.Metrics.Required, " "))
	}
	if spec.Gauges != nil {
		line("gauges", "%s %s", spec.Gauges.Path, strings.Join(spec.Gauges.Names, " "))
	}
	if spec.Counters != nil {
		line("counters", "%s %s", spec.Counters.Path, strings.Join(spec.Counters.Names, " "))
	}
	if spec.SleepsIdle {
		line("sleeps", "when idle; metrics wake it: %v", spec.MetricsWake)
	}
	if spec.Answer != nil {
		line("answer", "%s %s", spec.Answer.Path, spec.Answer.Body)
	}
	line("grace", "%s, while loading %s, kills itself: %v, drains itself: %v", spec.Grace, spec.LoadGrace, spec.KillsItself, spec.DrainsItself)
	return b.String()
}

// Spec is the launch of an engine that is asked for nothing special, on a host of which nothing is known.
func Spec(t testing.TB, e Engine) engine.LaunchSpec {
	t.Helper()
	spec, err := e.Launch(Case{}.Request(), engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// CauseIn is what the last lines of an engine tell.
func CauseIn(lines []string, patterns []engine.CausePattern) (engine.Cause, string) {
	f := diagnosis.Find(lines, patterns, lastwords.Last(lines))
	return f.Cause, f.Evidence
}

// Causes classifies all of testdata/logs, whose names begin with the cause.
func Causes(t *testing.T, e Engine) {
	t.Helper()
	files, err := filepath.Glob("testdata/logs/*.log")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d logs, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cause, evidence := CauseIn(strings.Split(string(text), "\n"), Spec(t, e).Causes)
		if !strings.HasPrefix(filepath.Base(file), string(cause)) || evidence == "" {
			t.Errorf("%s: got %q by %q", file, cause, evidence)
		}
	}
}
