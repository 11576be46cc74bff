package provisioner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/settings"
)

func TestLookupBinary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "engine")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+"/nonexistent")
	t.Chdir(dir)
	for name, cfg := range map[string]ProvisionConfig{
		"the usual name":   {},
		"a name":           {Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: "engine"}}},
		"an absolute path": {Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: path}}},
		"relative to Dir":  {Dir: filepath.Dir(dir), Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: filepath.Base(dir) + "/engine"}}},
		"relative":         {Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: "./engine"}}},
	} {
		if got, err := wanted(cfg, engine.Program{Command: "engine"}, os.Getenv("PATH")).Find(); err != nil || got != path {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, err := wanted(ProvisionConfig{}, engine.Program{Command: "other"}, os.Getenv("PATH")).Find()
	wantText(t, err, `no executable "other" in PATH; install it, or name it in "provisioning.binary.path"`)
	_, err = wanted(ProvisionConfig{}, engine.Program{Command: "other"}, "").Find()
	wantText(t, err, `no executable "other" in PATH, which is empty; `)
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, j := newLaunch(t, cfg)
	for range 2 {
		prepared, err := p.Prepare(bounded(t))
		if err != nil || prepared.Binary.Build != 11669 || prepared.ModelPath != cfg.Model.ID || len(prepared.Binary.Flags.Defs) == 0 {
			t.Errorf("%+v, %v", prepared, err)
		}
	}
	wantStates(t, j)
	if _, err := os.Stat(cfg.StateDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Prepare wrote a state directory: %v", err)
	}
	cfg.Model.ID = "/nonexistent.gguf"
	p, _ = newLaunch(t, cfg)
	_, err := p.Prepare(bounded(t))
	var start *StartError
	if !errors.As(err, &start) || start.Cause != engine.CauseModelMissing {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p, _ = newLaunch(t, fakeConfig(t, enginetest.Behavior{})) // of which all is known
	if _, err := p.Prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a dead context: %v", err)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Flags = []string{"-ngl", "0", "--ctx-size", "512"}
	cfg.APIKey = &settings.SecretRef{FromEnv: "NOT_SET_AND_NOT_NEEDED"}
	cfg.Env = map[string]settings.EnvValue{"GREETING": {Value: "hello"}}
	plan, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if plan.Binary != cfg.Provisioning.Binary.Path || plan.Version != "b11669-Fake" || plan.Model != cfg.Model.ID ||
		plan.URL != "http://127.0.0.1:"+itoa(cfg.Port) || plan.Handoff != filepath.Join(cfg.StateDir, "engines", "pool-r0.json") ||
		plan.Log != filepath.Join(cfg.StateDir, "pool-r0", "logs", "1.log") {
		t.Errorf("%+v", plan)
	}
	origins := map[string]engine.Flag{}
	for _, f := range plan.Flags {
		origins[f.Args[0]] = f
	}
	for name, want := range map[string]engine.Flag{
		"--model":        {Origin: engine.OriginProvisioner, Key: "model.id"},
		"--parallel":     {Origin: engine.OriginDefault},
		"--ctx-size":     {Origin: engine.OriginConfig, Key: "flags[2]"},
		"--n-gpu-layers": {Origin: engine.OriginConfig, Key: "flags[0]"},
	} {
		if got := origins[name]; got.Origin != want.Origin || got.Key != want.Key {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	env := map[string]string{}
	for _, v := range plan.Env {
		env[v.Name] = v.Origin
	}
	for name, want := range map[string]string{
		"GREETING": "config", "LLAMA_API_KEY": "api_key", "PATH": "inherited", "TMPDIR": "provisioner", "CUDA_VISIBLE_DEVICES": "devices",
	} {
		if env[name] != want {
			t.Errorf("%s comes from %q, want %q", name, env[name], want)
		}
	}
	if _, err := os.Stat(cfg.StateDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Plan wrote a state directory: %v", err)
	}
}

// The cache knows what it has by the JSON of the configuration, which must not change with the types' home.
func TestAcquiredConfigs(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]any{
		{settings.Source{}, acquire.SourceConfig{}}, {settings.Package{}, acquire.PackageConfig{}}, {settings.Binary{}, acquire.BinaryConfig{}},
	} {
		own, inner := reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1])
		for i := range own.NumField() {
			if a, b := own.Field(i).Tag.Get("json"), inner.Field(i).Tag.Get("json"); a != b {
				t.Errorf("%s.%s is %q in the configuration and %q in the cache", own, own.Field(i).Name, a, b)
			}
		}
	}
}

// The limits of downloads reach both who downloads models and who downloads executables.
func TestDownloadLimits(t *testing.T) {
	t.Parallel()
	cfg := ProvisionConfig{Download: settings.Download{MinPerMinute: 1 << 20, Timeout: settings.Duration(time.Hour)}}
	cfg.Provisioning.Binary = &settings.Binary{Release: "b1"}
	want := fetch.Limits{MinPerMinute: 1 << 20, Timeout: time.Hour}
	if got := (supply{}).models(cfg).Limits; got != want {
		t.Errorf("models: %+v", got)
	}
	if got := (supply{}).executable(cfg, engine.Program{}).(acquire.Download).Limits; got != want {
		t.Errorf("executables: %+v", got)
	}
	if got := limitsOf((ProvisionConfig{}).WithDefaults().Download); got != (fetch.Limits{MinPerMinute: 64 << 10, Timeout: 24 * time.Hour}) {
		t.Errorf("by default: %+v", got)
	}
}
