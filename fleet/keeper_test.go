package fleet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// A handoff that somebody removes or changes while its replica is ready is written again, and told.
func TestHandoffIsWrittenAgain(t *testing.T) {
	t.Parallel()
	for who, begin := range map[string]func(t *testing.T) (state.Files, provisioner.Handoff, *journal){
		"a manager": func(t *testing.T) (state.Files, provisioner.Handoff, *journal) {
			s, j := superviseReady(t, briskly(fakeConfig(t, enginetest.Behavior{})))
			h, _ := s.all()[0].launch.Handoff()
			return s.all()[0].files, h, j
		},
		"a launch alone": func(t *testing.T) (state.Files, provisioner.Handoff, *journal) {
			p, j := ready(t, fakeConfig(t, enginetest.Behavior{}))
			h, _ := p.Handoff()
			return filesOf(p), h, j
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
				seen, err := provisioner.WatchHandoffs(ctx, files.Handoffs())
				if err != nil {
					t.Fatal(err)
				}
				if e := <-seen; !reflect.DeepEqual(e.Handoff, want) {
					t.Fatalf("the watcher sees %+v", e)
				}
				if err := spoil(files.Handoff()); err != nil {
					t.Fatal(err)
				}
				for e := range seen { // "removed" or "cannot be read" may come first, or be over already
					if e.Err == nil && !e.Removed {
						if !reflect.DeepEqual(e.Handoff, want) {
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

// A state directory or a lock that goes away is made again with all that is needed, and no other manager gets in.
func TestStateDirectoryGoesAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(state string) error{
		"removed": func(state string) (err error) {
			for range 1000 { // the manager writes into it meanwhile
				if err = os.RemoveAll(state); !errors.Is(err, syscall.ENOTEMPTY) {
					break
				}
			}
			return err
		},
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
			var locked *provisioner.LockedError
			if _, err := opened(bounded(t), []provisioner.ProvisionConfig{cfg}); !errors.As(err, &locked) || locked.PID != os.Getpid() {
				t.Errorf("a second manager: %v", err)
			}
			eventually(t, "it is told", func() bool { return strings.Contains(j.notes(), "somebody has removed files of the state directory") })
			eventually(t, "the handoff is there", func() bool { return access.Exists(files.Handoff()) })
			eventually(t, "the launch is told as before", func() bool {
				all, err := Statuses(cfg.StateDir)
				return err == nil && len(all) == 1 && all[0].PID == was.PID && all[0].State == provisioner.StateReady
			})
			if !state.Managed(files.State) {
				t.Error("the lock is not taken again")
			}
			if answers, err := RequestStop(bounded(t), cfg.StateDir, poolR0); err != nil || len(answers) != 1 || answers[0].Error != "" {
				t.Errorf("a request: %+v (%v)", answers, err)
			}
		})
	}
}
