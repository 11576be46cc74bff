package provisioner

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/settings"
)

// moveOn has the branch of a hub's model be another commit in the cache, as another program leaves it that has downloaded that.
func (r *hubRig) moveOn(t *testing.T, model string) (moved string) {
	t.Helper()
	was := filepath.Base(filepath.Dir(model))
	commit := strings.Repeat("0123", 10)
	folder := filepath.Join(r.cache, "models--org--Chat-GGUF")
	moved = filepath.Join(folder, "snapshots", commit, filepath.Base(model))
	if err := os.MkdirAll(filepath.Dir(moved), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(moved, r.tiny, 0o600); err != nil {
		t.Fatal(err)
	}
	ref := filepath.Join(folder, "refs/main")
	if now, err := os.ReadFile(ref); err != nil || !bytes.Equal(bytes.TrimSpace(now), []byte(was)) {
		t.Fatalf("the branch is %q (%v), want %q", now, err, was)
	}
	if err := os.WriteFile(ref, []byte(commit), 0o600); err != nil {
		t.Fatal(err)
	}
	return moved
}

// What was prepared, rehearsed or shown is what is started, whatever its name means by then.
func TestStartRunsWhatWasShown(t *testing.T) {
	t.Parallel()
	for name, show := range map[string]func(t *testing.T, p *EngineProvisioner) (model string){
		"Prepare": func(t *testing.T, p *EngineProvisioner) string {
			prepared, err := p.Prepare(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			return prepared.ModelPath
		},
		"Rehearse": func(t *testing.T, p *EngineProvisioner) string {
			plan, err := p.Rehearse(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			return plan.Model
		},
		"Plan": func(t *testing.T, p *EngineProvisioner) string {
			plan, err := p.Plan(bounded(t))
			if err != nil || len(plan.Pending) > 0 {
				t.Fatalf("%v, pending %q", err, plan.Pending)
			}
			return plan.Model
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
			r.mustPrepare(t)
			p, _ := newLaunch(t, r.cfg)
			shown := show(t, p)
			moved := r.moveOn(t, shown)
			if h := r.started(t, p); h.Model.Path != shown {
				t.Errorf("it runs %q, and %q was shown", h.Model.Path, shown)
			}
			// Who asks another launch gets what the name means now.
			other, _ := newLaunch(t, r.cfg)
			if plan, err := other.Plan(bounded(t)); err != nil || plan.Model != moved {
				t.Errorf("another launch would run %q (%v), want %q", plan.Model, err, moved)
			}
		})
	}
}

// started starts p, waits until it is ready, and stops it at the test's end.
func (r *hubRig) started(t *testing.T, p *EngineProvisioner) Handoff {
	t.Helper()
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()) })
	h, err := p.WaitReady(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Files that somebody has changed or removed are found out about anew.
func TestStartLooksAgainAtChangedFiles(t *testing.T) {
	t.Parallel()
	t.Run("model gone", func(t *testing.T) {
		t.Parallel()
		r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
		p, _ := newLaunch(t, r.cfg)
		prepared, err := p.Prepare(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		moved := r.moveOn(t, prepared.ModelPath)
		if err := os.Remove(prepared.ModelPath); err != nil {
			t.Fatal(err)
		}
		if h := r.started(t, p); h.Model.Path != moved {
			t.Errorf("it runs %q, want %q", h.Model.Path, moved)
		}
	})
	t.Run("executable replaced", func(t *testing.T) {
		t.Parallel()
		r := newHubRig(t, "hf:"+hubRepo+":Q4_K_M")
		path := filepath.Join(t.TempDir(), "llama-server")
		install := func(version string) {
			data, err := os.ReadFile(enginetest.Install(t, enginetest.Behavior{VersionText: "version: " + strings.TrimPrefix(version, "b") + " (22cae8321)\n"}))
			if err != nil {
				t.Fatal(err)
			}
			next := path + ".new"
			if err := os.WriteFile(next, data, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(next, path); err != nil {
				t.Fatal(err)
			}
		}
		install("b1000")
		r.cfg.Provisioning.Binary = &settings.Binary{Path: path}
		p, _ := newLaunch(t, r.cfg)
		prepared, err := p.Prepare(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		install("b2000")
		r.started(t, p)
		if got := p.run.rec.Version; got == prepared.Binary.Version {
			t.Errorf("the version is still %q", got)
		}
	})
}
