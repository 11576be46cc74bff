package provisioner

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/settings"
)

// tuned is llama-server with another Program or LaunchSpec, as other engines have.
type tuned struct {
	llamacpp.Engine
	kind engine.ModelKind
	tune func(*engine.LaunchSpec)
}

func (e tuned) Program(req engine.Request) engine.Program {
	program := e.Engine.Program(req)
	program.Model = e.kind
	return program
}

func (e tuned) Launch(req engine.Request, host engine.Host) (engine.LaunchSpec, error) {
	spec, err := e.Engine.Launch(req, host)
	if err == nil && e.tune != nil {
		e.tune(&spec)
	}
	return spec, err
}

// A side port that is taken is found before the start, and told by what it is for.
func TestSidePortIsTaken(t *testing.T) {
	t.Parallel()
	port := enginetest.Stranger(t)
	p, j := newLaunch(t, fakeConfig(t, enginetest.Behavior{}), WithEngine(tuned{tune: func(s *engine.LaunchSpec) {
		s.Ports = []engine.Port{{Number: enginetest.FreePort(t, 1), Use: "the shards"}, {Number: port, Use: "the metrics"}}
	}}))
	err := p.Start(bounded(t))
	var start *StartError
	if !errors.As(err, &start) || start.Cause != engine.CausePortInUse || !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v", err)
	}
	wantText(t, err, "port "+itoa(port)+", for the metrics, is not free: it is taken by", itoa(os.Getpid()))
	wantStates(t, j, StatePreparing, StateFailed)
}

// The launch's temporary folder stands in the engine's own flags, and the user's words stay as they are.
func TestTempDirInFlags(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Flags = []string{"--alias", engine.TempDirPlaceholder}
	option := WithEngine(tuned{tune: func(s *engine.LaunchSpec) {
		s.Flags = append(s.Flags, engine.Flag{Args: []string{"--slot-save-path", engine.TempDirPlaceholder + "/slots"}, Origin: engine.OriginProvisioner})
	}})
	plan, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir()), option)
	if err != nil || !slices.Contains(plan.Args(), engine.TempDirPlaceholder+"/slots") {
		t.Errorf("the plan is %q (%v)", plan.Args(), err)
	}
	p, _ := ready(t, cfg, option)
	args := enginetest.Inspect(t, p.handoff.URL).Argv
	dir := p.run.rec.TempDir
	i, j := slices.Index(args, "--slot-save-path"), slices.Index(args, "--alias")
	if i < 0 || j < 0 || args[i+1] != dir+"/slots" || args[j+1] != engine.TempDirPlaceholder {
		t.Errorf("the engine got %q, its folder is %q", args, dir)
	}
	if h := p.handoff; !slices.Equal(h.Args, p.run.rec.Launch.Args) || !slices.Contains(h.Args, dir+"/slots") || slices.Contains(h.Flags, dir+"/slots") {
		t.Errorf("the handoff has %q and %q", h.Args, h.Flags)
	}
}

// An engine that is deaf while it loads is not waited for as long as one that has requests to answer.
func TestLoadGrace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		load  time.Duration
		grace settings.Duration
		want  string
	}{
		"loading":                        {load: time.Hour, want: "10ms"},
		"ready":                          {want: "20ms"},
		"loading, the user knows better": {load: time.Hour, grace: settings.Duration(30 * time.Millisecond), want: "30ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{LoadTime: test.load, IgnoreTerm: true})
			cfg.Stop.Grace = test.grace
			option := WithEngine(tuned{tune: func(s *engine.LaunchSpec) { s.Grace, s.LoadGrace = 20*time.Millisecond, 10*time.Millisecond }})
			launch := ready
			if test.load > 0 {
				launch = started
			}
			p, _ := launch(t, cfg, option)
			eventually(t, "the engine is deaf", func() bool { return port.Holder("127.0.0.1", cfg.Port, ourEngine) != "" })
			err := p.Stop(bounded(t))
			if !errors.Is(err, ErrKilled) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// A model that the engine fetches by itself has no path; it is known by its name.
func TestModelByName(t *testing.T) {
	t.Parallel()
	for said, fits := range map[string]bool{"owner/model": true, "owner/other": false} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{PropsModel: said})
			cfg.Model.ID = "hf:owner/model@0123abc"
			p, _ := started(t, cfg, WithEngine(tuned{kind: engine.ModelFolder}))
			h, err := p.WaitReady(bounded(t))
			if !fits {
				wantText(t, err, `the engine serves another model: "owner/other" instead of "owner/model"`)
				return
			}
			if err != nil || h.Model != (HandoffModel{ID: cfg.Model.ID}) {
				t.Errorf("got %+v, %v", h.Model, err)
			}
		})
	}
}

// A key that an engine cannot take in secret is refused, rather than left out.
func TestEngineTakesNoKey(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.APIKey = &settings.SecretRef{FromEnv: "KEY"}
	_, err := New(cfg, WithEngine(tuned{tune: func(s *engine.LaunchSpec) { s.KeyEnv = "" }}))
	wantText(t, err, "api_key: llamacpp takes no key by its environment", "put a proxy")
}
