package provisioner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

// counted is an executable that counts how often it is asked, and says what version is in a file beside it.
func counted(t *testing.T) (path string, times func() int) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "engine")
	body := "#!/bin/sh\necho x >>'" + dir + "/asked'\ncat '" + dir + "/says'\n"
	writeProgram(t, path, body)
	if err := os.WriteFile(filepath.Join(dir, "says"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() int {
		data, _ := os.ReadFile(filepath.Join(dir, "asked"))
		return strings.Count(string(data), "x")
	}
}

var plainProgram = engine.Program{
	Command: "engine", VersionArgs: []string{"--version"}, HelpArgs: []string{"--help"},
	ParseVersion: func(output string) (string, int, error) {
		build, err := strconv.Atoi(strings.TrimSpace(output))
		return "v" + strings.TrimSpace(output), build, err
	},
	ParseHelp: func(output string) engine.FlagSet {
		return engine.FlagSet{Defs: []engine.FlagDef{{Names: []string{"--" + strings.TrimSpace(output)}}}}
	},
}

// An executable is asked once, and again when it, or what it is run with, is another.
func TestInspectAsksOnce(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	path, times := counted(t)
	i := inspector{filepath.Join(t.TempDir(), "cache")}
	inspect := func(env map[string]string) engine.Binary {
		t.Helper()
		b, err := i.inspect(ctx, path, plainProgram, env)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := inspect(nil)
	if first.Version != "v1" || first.Build != 1 || len(first.Flags.Defs) != 1 || len(first.Digest) != 64 || first.Path != path {
		t.Errorf("%+v", first)
	}
	asked := times()
	if second := inspect(nil); second.Digest != first.Digest || second.Version != "v1" || times() != asked {
		t.Errorf("asked again: %+v, %d times", second, times())
	}
	inspect(map[string]string{"LD_LIBRARY_PATH": "/elsewhere"})
	if times() != 2*asked {
		t.Errorf("another environment: asked %d times", times())
	}
	// The same content elsewhere is the same program.
	moved := filepath.Join(t.TempDir(), "moved")
	writeProgram(t, moved, string(mustRead(t, path)))
	if b, err := i.inspect(ctx, moved, plainProgram, nil); err != nil || b.Path != moved || times() != 2*asked {
		t.Errorf("moved: %+v, %v, asked %d times", b, err, times())
	}
	// Other content is another program.
	writeProgram(t, path, string(mustRead(t, path))+"#\n")
	if changed := inspect(nil); changed.Digest == first.Digest || times() != 3*asked {
		t.Errorf("changed: %+v, asked %d times", changed, times())
	}
	i.forget(inspect(nil).Digest, plainProgram, nil)
	inspect(nil)
	if times() != 4*asked {
		t.Errorf("forgotten: asked %d times", times())
	}
}

func TestInspectWithoutACache(t *testing.T) {
	t.Parallel()
	path, times := counted(t)
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	i := inspector{filepath.Join(blocked, "cache")} // cannot be created
	for range 2 {
		if b, err := i.inspect(bounded(t), path, plainProgram, nil); err != nil || b.Version != "v1" {
			t.Errorf("%+v, %v", b, err)
		}
	}
	if times() != 4 {
		t.Errorf("asked %d times", times())
	}
	none := inspector{}
	b, err := none.inspect(bounded(t), path, plainProgram, nil)
	if err != nil || b.Version != "v1" {
		t.Errorf("with no folder: %+v, %v", b, err)
	}
	none.forget(b.Digest, plainProgram, nil)
	if stray, err := filepath.Glob("facts-*.json"); err != nil || len(stray) > 0 {
		t.Errorf("without a folder, files came into the working directory: %v, %v", stray, err)
	}
	damaged := inspector{t.TempDir()}
	if _, err := damaged.inspect(bounded(t), path, plainProgram, nil); err != nil {
		t.Fatal(err)
	}
	for file := range filesBelow(t, damaged.dir) {
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := damaged.inspect(bounded(t), path, plainProgram, nil); err != nil || b.Version != "v1" {
		t.Errorf("a damaged cache: %+v, %v", b, err)
	}
}

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
		"a name":           {Provisioning: Provisioning{Binary: &BinaryConfig{Path: "engine"}}},
		"an absolute path": {Provisioning: Provisioning{Binary: &BinaryConfig{Path: path}}},
		"relative to Dir":  {Dir: filepath.Dir(dir), Provisioning: Provisioning{Binary: &BinaryConfig{Path: filepath.Base(dir) + "/engine"}}},
		"relative":         {Provisioning: Provisioning{Binary: &BinaryConfig{Path: "./engine"}}},
	} {
		if got, err := lookupBinary(cfg, plainProgram, os.Getenv("PATH")); err != nil || got != path {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, err := lookupBinary(ProvisionConfig{}, engine.Program{Command: "other"}, os.Getenv("PATH"))
	wantText(t, err, `no executable "other" in PATH; install it, or name it in "provisioning.binary.path"`)
	_, err = lookupBinary(ProvisionConfig{}, engine.Program{Command: "other"}, "")
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
	p, _ = newLaunch(t, fakeConfig(t, enginetest.Behavior{}))
	if _, err := p.Prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a dead context: %v", err)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Flags = []string{"-ngl", "0", "--ctx-size", "512"}
	cfg.APIKey = &SecretRef{FromEnv: "NOT_SET_AND_NOT_NEEDED"}
	cfg.Env = map[string]EnvValue{"GREETING": {Value: "hello"}}
	plan, err := Plan(bounded(t), cfg, WithCacheDir(t.TempDir()))
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
