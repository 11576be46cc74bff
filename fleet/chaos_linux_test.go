package fleet

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"golang.org/x/sys/unix"
)

// fill leaves no byte of a file system free, and returns what gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// A full disk costs what would have been written, never what was there: engines run on, records stay whole, and the
// manager goes on when there is room again.
func TestChaosFullDisk(t *testing.T) {
	t.Parallel()
	disk := mountTmpfs(t, "2m")
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	cfg.StateDir = filepath.Join(disk, "state")
	s, _ := superviseReady(t, cfg)
	was := s.Status()[0]
	files := filesAt(cfg)
	record, err := os.ReadFile(files.Record())
	if err != nil {
		t.Fatal(err)
	}
	free := fill(t, disk)

	other := cfg
	other.ReplicaID, other.Port = "r1", enginetest.FreePort(t, 1)
	p, err := provisioner.New(other)
	if err != nil {
		t.Fatal(err)
	}
	var start *provisioner.StartError
	if err := p.Start(bounded(t)); !errors.As(err, &start) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Start on a full disk: %v", err)
	} else {
		wantText(t, err, "cannot ", "no space left on device")
	}
	otherFiles := filesAt(other)
	for _, path := range []string{otherFiles.Record(), otherFiles.Handoff(), otherFiles.PID()} {
		if data, err := os.ReadFile(path); err == nil {
			t.Errorf("left: %s with %q", path, data)
		}
	}
	if now := s.Status()[0]; now.LaunchID != was.LaunchID || statusAt(t, was.URL+"/health") != http.StatusOK {
		t.Errorf("the engine that ran: %+v", now)
	}
	if data, err := os.ReadFile(files.Record()); err != nil || !bytes.Equal(data, record) {
		t.Errorf("the record changed (%v): %s", err, data)
	}
	// Its end is seen and its handoff goes, although nothing can be written.
	enginetest.Kill(t, was.URL, enginetest.Death{Code: 1})
	eventually(t, "the handoff goes", func() bool { _, err := os.Stat(files.Handoff()); return errors.Is(err, fs.ErrNotExist) })
	eventually(t, "a start fails for want of room", func() bool { r := s.Status()[0].Restarts; return strings.Contains(r.Last, "no space left") })
	if _, err := readRecord(files); err != nil {
		t.Errorf("torn: %v", err)
	}
	free()
	untilReady(t, s, was.LaunchID)
	t.Log("chaos: full disk: 1 engine untouched, 1 start refused, 1 restart when there was room, 0 torn files")
}

// What somebody plants in the state directory is neither followed nor waited for.
func TestChaosPlanted(t *testing.T) {
	t.Parallel()
	const precious = "precious\n"
	in := func(name string) func(state.Files) string {
		return func(f state.Files) string { return filepath.Join(f.Dir(), name) }
	}
	places := map[string]func(state.Files) string{
		"record.json": state.Files.Record, "handoff": state.Files.Handoff, "engine.lock": state.Files.LockPath,
		"stop.lock": state.Files.StopLock, "engine.pid": state.Files.PID, "logs": state.Files.Logs, "restarts.json": in("restarts.json"), "1.log": func(f state.Files) string { return f.Log(1) },
		"the replica's folder": state.Files.Dir, "engines": state.Files.Handoffs,
		"events.jsonl": func(f state.Files) string { return filepath.Join(f.State, state.EventsName) },
		"manager.lock": func(f state.Files) string { return filepath.Join(f.State, "manager.lock") },
	}
	plants := map[string]func(path, victim string) error{
		"symlink":     func(path, victim string) error { return os.Symlink(victim, path) },
		"dangling":    func(path, victim string) error { return os.Symlink(victim+"-new", path) },
		"hardlink":    func(path, victim string) error { return os.Link(victim, path) },
		"folder link": func(path, victim string) error { return os.Symlink(filepath.Dir(victim), path) },
		"fifo":        func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"folder": func(path, _ string) error {
			return errors.Join(os.MkdirAll(filepath.Join(path, "full"), 0o777), os.Chmod(path, 0o777))
		},
		"mode": func(path, _ string) error { return errors.Join(os.WriteFile(path, nil, 0o666), os.Chmod(path, 0o666)) },
	}
	binary := fakeConfig(t, enginetest.Behavior{})
	cache := provisioner.WithCacheDir(t.TempDir())
	for place, pathOf := range places {
		for plant, do := range plants {
			t.Run(plant+" at "+place, func(t *testing.T) {
				t.Parallel()
				cfg := briskly(binary)
				cfg.Dir = t.TempDir()
				cfg.StateDir, cfg.Port = filepath.Join(cfg.Dir, "state"), enginetest.FreePort(t, 1)
				files := filesAt(cfg)
				victims := filepath.Join(cfg.Dir, "victims")
				victim := filepath.Join(victims, "victim")
				path := pathOf(files)
				if err := errors.Join(files.Create(), os.Mkdir(victims, 0o700), os.WriteFile(victim, []byte(precious), 0o640)); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.RemoveAll(path), do(path, victim)); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				outcome := make(chan error, 1)
				go func() {
					s, err := opened(ctx, []provisioner.ProvisionConfig{cfg}, cache)
					if err == nil {
						err = s.WaitReady(ctx)
						if ctx.Err() == nil {
							_, _ = Statuses(cfg.StateDir)
							for _, err := range ReadEvents(ctx, cfg.StateDir, false) {
								if err != nil {
									t.Log(err)
								}
							}
						}
						err = errors.Join(err, s.Shutdown(ctx))
					}
					outcome <- err
				}()
				var err error
				select {
				case err = <-outcome:
				case <-time.After(patience + 10*time.Second):
					t.Fatal("it hangs")
				}
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					t.Errorf("it waited for the end of time: %v", err)
				case err != nil:
					wantText(t, err, "cannot ")
				}
				t.Logf("outcome: %v", err)
				got := filesBelow(t, victims)
				if len(got) != 1 || got[victim] != precious {
					t.Errorf("the victim's folder holds %q", got)
				}
				if info, err := os.Stat(victim); err != nil || info.Mode() != 0o640 {
					t.Errorf("the victim's mode: %v (%v)", info.Mode(), err)
				}
			})
		}
	}
	t.Cleanup(func() { t.Logf("chaos: %d things planted", len(places)*len(plants)) })
}

// The same with the real engine: its manager is killed while it loads and when it is ready; it goes on with the next
// manager under the same pid, answers, and is stopped with a drain.
func TestChaosRealEngine(t *testing.T) {
	t.Parallel()
	rounds, _ := chaosCount(t, "CHAOS_REAL", 3)
	c := rigFor(t, realConfig(t, tiny))
	adoptedReady, adoptedLoading, orphans, torn := 0, 0, 0, 0
	for n := range rounds {
		order := c.order
		order.Hold = true
		word := []string{"ready", "begin"}[n%2]
		c.kill(t, order, word, rand.N(100*time.Millisecond))
		torn += c.torn(t)
		before, beforeErr := provisioner.ReadHandoff(c.files.Handoff())
		s, err := opened(bounded(t), []provisioner.ProvisionConfig{order.config()}, order.cache())
		if err == nil {
			err = s.WaitReady(bounded(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		now := s.Status()[0]
		switch {
		case beforeErr == nil && now.PID == before.Process.PID:
			adoptedReady++
		case beforeErr == nil:
			t.Errorf("was pid %d, is pid %d: loaded again", before.Process.PID, now.PID)
		default:
			adoptedLoading++
		}
		orphans += c.strangers(t, s.replicas[0].launch)
		answer := make(chan error, 1)
		began := make(chan struct{})
		go func() { answer <- complete(now.URL, began) }()
		<-began
		if err := s.Shutdown(bounded(t)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := <-answer; err != nil {
			t.Errorf("a client was cut off: %v", err)
		}
		all, _ := c.processes()
		orphans += len(all)
		c.noHandoff(t)
		c.noTemporaries(t)
	}
	if orphans > 0 {
		t.Errorf("%d orphans", orphans)
	}
	t.Logf("chaos: llama-server: %d managers killed: %d engines adopted when ready, %d were loading, %d drains, %d orphans, %d torn files",
		rounds, adoptedReady, adoptedLoading, rounds, orphans, torn)
}
