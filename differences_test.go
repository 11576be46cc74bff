package provisioner

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/footprint"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// wantDifferences compares what differs from the recorded launch, as it is told.
func wantDifferences(t *testing.T, cfg ProvisionConfig, want ...string) []report.Difference {
	t.Helper()
	differs, err := differencesOf(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range differs {
		got = append(got, d.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("differs by %q, want %q: %+v", got, want, differs)
	}
	return differs
}

// Each setting that makes another launch is named, and none that only the provisioner acts on.
func TestDifferencesNameTheKey(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Flags = []string{"--ctx-size", "512", "--threads", "2"}
	cfg.Env = map[string]settings.EnvValue{"LANG": {Value: "C"}, "GGML_X": {Value: "hunter2"}}
	started(t, cfg)
	wantDifferences(t, cfg)
	record := string(mustRead(t, filepath.Join(cfg.StateDir, "pool-r0", state.RecordName)))
	if strings.Contains(record, "hunter2") {
		t.Error("the record holds a variable's value")
	}
	other := filepath.Join(t.TempDir(), "other.gguf")
	if err := os.WriteFile(other, []byte(enginetest.GGUF), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*ProvisionConfig)
		want   []string
	}{
		"a flag":      {func(c *ProvisionConfig) { c.Flags = []string{"--ctx-size", "512", "--threads", "1"} }, []string{"flags[2]"}},
		"a flag more": {func(c *ProvisionConfig) { c.Flags = append([]string{"--mlock"}, c.Flags...) }, []string{"flags[0] (added)"}},
		"a flag less": {func(c *ProvisionConfig) { c.Flags = c.Flags[:2] }, []string{"flags[2] (removed)"}},
		"the model":   {func(c *ProvisionConfig) { c.Model.ID = other }, []string{"model.id"}},
		"its name":    {func(c *ProvisionConfig) { c.Model.ID = "local:" + c.Model.ID }, nil},
		"the port":    {func(c *ProvisionConfig) { c.Port++ }, []string{"port"}},
		"the host":    {func(c *ProvisionConfig) { c.Host = "127.0.0.2" }, []string{"host"}},
		"a variable": {
			func(c *ProvisionConfig) {
				c.Env = map[string]settings.EnvValue{"LANG": {Value: "C.UTF-8"}, "TZ": {Value: "UTC"}}
			},
			[]string{"env.GGML_X (removed)", "env.LANG", "env.TZ (added)"},
		},
		"the key": {
			func(c *ProvisionConfig) { c.APIKey = &settings.SecretRef{FromEnv: "A_KEY"} },
			[]string{"api_key (added)"},
		},
		"the executable's path": {
			func(c *ProvisionConfig) {
				c.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{LoadTime: time.Second})}
			},
			[]string{"provisioning.binary"},
		},
		"its tie to the manager": {func(c *ProvisionConfig) { c.OnManagerExit = "kill" }, []string{"on_manager_exit"}},
		"what the provisioner acts on": {func(c *ProvisionConfig) {
			c.Liveness.Period, c.Restart.Mode, c.Drain.Timeout, c.Ready.Answer = settings.Duration(time.Minute), "never", new(settings.Duration(0)), "off"
			c.Logs.Keep, c.Stop.Grace, c.GPU, c.Fit = 2, settings.Duration(time.Minute), engine.GPUNone, "off"
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			changed := cfg
			c.change(&changed)
			wantDifferences(t, changed, c.want...)
		})
	}
	changed := cfg
	changed.Flags = []string{"--ctx-size", "512", "--threads", "1"}
	want := []report.Difference{{Key: "flags[2]", Was: "--threads 2", Now: "--threads 1"}}
	if got := wantDifferences(t, changed, "flags[2]"); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if differs, err := differencesOf(bounded(t), changed); len(differs) == 0 || err != nil {
		t.Errorf("differences %v (%v)", differs, err)
	}
}

// What a launch looked up in PATH is looked up there again, whatever the asker's own says.
func TestDifferencesAreNotTheAskersEnvironment(t *testing.T) {
	cfg := fakeConfig(t, enginetest.Behavior{})
	path := cfg.Provisioning.Binary.Path
	cfg.Provisioning.Binary = nil
	system := os.Getenv("PATH")
	t.Setenv("PATH", filepath.Dir(path)+":"+system)
	started(t, cfg)
	other := enginetest.Install(t, enginetest.Behavior{LoadTime: time.Second})
	t.Setenv("PATH", filepath.Dir(other)+":"+system)
	wantDifferences(t, cfg)
	t.Setenv("PATH", "/nonexistent")
	wantDifferences(t, cfg)
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	wantDifferences(t, cfg, "provisioning.binary (the executable changed)")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err := differencesOf(bounded(t), cfg)
	wantText(t, err, "no executable \"llama-server\" in PATH; ")
}

// The server of the engine "custom" is named by its own keys.
func TestDifferencesOfCustom(t *testing.T) {
	t.Parallel()
	cfg := customConfig(t, enginetest.Behavior{})
	cfg.Provisioning.Binary = nil
	cfg.Custom.Command[0] = enginetest.Install(t, enginetest.Behavior{})
	started(t, cfg)
	wantDifferences(t, cfg)
	changed, custom := cfg, *cfg.Custom
	custom.Command = append(slices.Clone(custom.Command), "--metrics")
	custom.Health, custom.Grace = "/v1/health", settings.Duration(time.Minute)
	custom.Env = map[string]string{"A": "b"}
	changed.Custom = &custom
	wantDifferences(t, changed, "custom.command["+lastIndex(custom.Command)+"] (added)", "custom.env.A (added)")
	custom.Command = slices.Clone(cfg.Custom.Command)
	custom.Command[0] = enginetest.Install(t, enginetest.Behavior{LoadTime: time.Second})
	wantDifferences(t, changed, "custom.command[0]", "custom.env.A (added)")
}

func lastIndex(list []string) string {
	data, _ := json.Marshal(len(list) - 1)
	return string(data)
}

// A record of the version before has one hash of everything. It says whether there is a difference, and its command line
// which one, such as a default that was another then.
func TestDifferencesFromAnEarlierVersion(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, _ := started(t, cfg)
	rec := p.run.rec
	rec.Launch.Footprint, rec.Launch.Places = footprint.Footprint{}, places{}
	if err := writeRecord(p.run.files, rec); err != nil {
		t.Fatal(err)
	}
	wantDifferences(t, cfg)
	cfg.Flags = []string{"--ctx-size", "777"}
	wantDifferences(t, cfg, "flags[0] (added)")
	cfg.Flags, cfg.Env = nil, map[string]settings.EnvValue{"A": {Value: "b"}}
	wantDifferences(t, cfg, "the version that launched it did not record by what")

	cfg.Env = nil
	i := slices.Index(rec.Launch.Args, "--parallel")
	if i < 0 {
		t.Fatalf("no default to change in %q", rec.Launch.Args)
	}
	rec.Launch.Args = slices.Clone(rec.Launch.Args)
	rec.Launch.Args[i+1], rec.Launch.ConfigHash, rec.Launch.Digest = "4", "another", "another"
	if err := writeRecord(p.run.files, rec); err != nil {
		t.Fatal(err)
	}
	differs := wantDifferences(t, cfg, "provisioning.binary (the executable changed)", "flags")
	if len(differs) == 2 && (differs[1].Was != "--parallel 4" || differs[1].Now != "--parallel 1") {
		t.Errorf("%+v", differs[1])
	}
}
