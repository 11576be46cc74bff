package provisioner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// A handoff that somebody removes or changes while its replica is ready is written again, and told.
func TestHandoffIsWrittenAgain(t *testing.T) {
	t.Parallel()
	for who, begin := range map[string]func(t *testing.T) (state.Files, Handoff, *journal){
		"a supervisor": func(t *testing.T) (state.Files, Handoff, *journal) {
			s, j := superviseReady(t, briskly(fakeConfig(t, enginetest.Behavior{})))
			return s.all()[0].files, s.all()[0].launch.handoff, j
		},
		"a launch alone": func(t *testing.T) (state.Files, Handoff, *journal) {
			p, j := ready(t, fakeConfig(t, enginetest.Behavior{}))
			return p.run.files, p.handoff, j
		},
	} {
		for what, spoil := range map[string]func(path string) error{
			"removed":   os.Remove,
			"truncated": func(path string) error { return os.Truncate(path, 7) },
			"moved": func(path string) error {
				return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old")
			},
		} {
			t.Run(who+", "+what, func(t *testing.T) {
				t.Parallel()
				files, want, j := begin(t)
				ctx, leave := context.WithCancel(bounded(t))
				defer leave()
				seen, err := WatchHandoffs(ctx, files.Handoffs())
				if err != nil {
					t.Fatal(err)
				}
				if e := <-seen; !sameText(e.Handoff, want) {
					t.Fatalf("the watcher sees %+v", e)
				}
				if err := spoil(files.Handoff()); err != nil {
					t.Fatal(err)
				}
				for e := range seen { // "removed" or "cannot be read" may come first, or be over already
					if e.Err == nil && !e.Removed {
						if !sameText(e.Handoff, want) {
							t.Errorf("the watcher sees %+v", e.Handoff)
						}
						break
					}
				}
				eventually(t, "it is told", func() bool { return strings.Contains(j.notes(), "somebody has removed or changed its handoff") })
			})
		}
	}
}

// What is in the way of a handoff is told once, not each second, and once more when it comes back.
func TestHandoffThatCannotBeWrittenAgain(t *testing.T) {
	t.Parallel()
	p, j := started(t, fakeConfig(t, enginetest.Behavior{}))
	if _, err := p.WaitReady(bounded(t)); err != nil {
		t.Fatal(err)
	}
	folder := p.run.files.Handoffs()
	for round := 1; round <= 2; round++ {
		if err := errors.Join(os.RemoveAll(folder), os.WriteFile(folder, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p.look()
		}
		if told := strings.Count(j.notes(), "cannot write the handoff again"); told != round {
			t.Errorf("told %d times in round %d: %s", told, round, j.notes())
		}
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		if p.look(); !access.Exists(p.run.files.Handoff()) {
			t.Error("it was not written again")
		}
	}
}

// A state directory or a lock that goes away is made again with all that is needed, and no other manager gets in.
func TestStateDirectoryGoesAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(state string) error{
		"removed":  os.RemoveAll,
		"moved":    func(state string) error { return os.Rename(state, state+".old") },
		"the lock": func(dir string) error { return os.Remove(state.ManagerLock(dir)) },
		"the lock, and replaced": func(dir string) error {
			path := state.ManagerLock(dir)
			return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600))
		},
		"the replica's folder": func(state string) error { return os.RemoveAll(filepath.Join(state, "pool-r0")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
			s, j := superviseReady(t, cfg)
			was, files := s.Status()[0], s.all()[0].files
			if err := away(cfg.StateDir); err != nil {
				t.Fatal(err)
			}
			var locked *LockedError
			if _, err := Supervise(bounded(t), []ProvisionConfig{cfg}); !errors.As(err, &locked) || locked.PID != os.Getpid() {
				t.Errorf("a second manager: %v", err)
			}
			eventually(t, "it is told", func() bool { return strings.Contains(j.notes(), "somebody has removed files of the state directory") })
			eventually(t, "the handoff is there", func() bool { return access.Exists(files.Handoff()) })
			eventually(t, "the launch is told as before", func() bool {
				all, err := Statuses(cfg.StateDir)
				return err == nil && len(all) == 1 && all[0].PID == was.PID && all[0].State == StateReady
			})
			if !state.Managed(files.State) {
				t.Error("the lock is not taken again")
			}
			if answers, err := RequestStop(bounded(t), cfg.StateDir, "pool/r0"); err != nil || len(answers) != 1 || answers[0].Error != "" {
				t.Errorf("a request: %+v (%v)", answers, err)
			}
		})
	}
}
