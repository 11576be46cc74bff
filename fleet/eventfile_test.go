package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet/internal/feed"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// numbered is an event that is told apart by its PID.
func numbered(n int) provisioner.Event { return provisioner.Event{PID: n, Kind: provisioner.EventNote} }

// keepAll writes events through a feed.File and returns what it could not do.
func keepAll(f *feed.File, events ...provisioner.Event) (failures []error) {
	in := make(chan provisioner.Event, len(events))
	for _, e := range events {
		in <- e
	}
	close(in)
	f.Keep(in, func(err error) { failures = append(failures, err) })
	return failures
}

// keptEvents reads all that is kept; a complaint fails the test.
func keptEvents(t *testing.T, dir string) (events []provisioner.Event) {
	t.Helper()
	for e, err := range ReadEvents(t.Context(), dir, false) {
		if err != nil {
			t.Error(err)
			continue
		}
		events = append(events, e)
	}
	return events
}

// large is an event of which about a dozen fill a file.
func large(n int) provisioner.Event {
	e := numbered(n)
	e.Message = strings.Repeat("x", state.MaxEvents/12)
	return e
}

func TestEventFileRotates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &feed.File{Dir: dir}
	for n := 1; n <= 40; n++ {
		if failures := keepAll(f, large(n)); failures != nil {
			t.Fatal(failures)
		}
	}
	entries, err := os.ReadDir(dir)
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == state.EventsLockName })
	if err != nil || len(entries) != 2 {
		t.Errorf("files: %v (%v)", entries, err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Mode() != 0o600 || info.Size() > state.MaxEvents {
			t.Errorf("%s: mode %v, %d bytes (%v)", entry.Name(), info.Mode(), info.Size(), err)
		}
	}
	events := keptEvents(t, dir)
	if len(events) < 11 || len(events) > 24 {
		t.Errorf("%d events kept", len(events))
	}
	for i, e := range events {
		if e.PID != 40-len(events)+1+i {
			t.Errorf("event %d of %d is %d", i, len(events), e.PID)
		}
	}
}

// Whoever follows gets each event once, in order, from the beginning on, whatever the file does meanwhile.
func TestReadEventsFollows(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state") // which does not exist yet
	ctx, stop := context.WithCancel(bounded(t))
	defer stop()
	const total = 60
	read := make(chan int)
	var following sync.WaitGroup
	following.Go(func() {
		for e, err := range ReadEvents(ctx, dir, true) {
			if err != nil {
				t.Error(err)
			}
			read <- e.PID
		}
	})
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := &feed.File{Dir: dir}
	for n := 1; n <= total; n++ {
		keepAll(f, large(n))
		if n%9 == 0 { // between two looks, there is at most one rotation
			for want := n - 8; want <= n; want++ {
				if got := <-read; got != want {
					t.Fatalf("event %d, want %d", got, want)
				}
			}
		}
	}
	for want := total - total%9 + 1; want <= total; want++ {
		if got := <-read; got != want {
			t.Fatalf("event %d, want %d", got, want)
		}
	}
	stop()
	following.Wait()
}

// A line without an end is of a writer that was killed. It must not spoil the next one.
func TestEventFileHeals(t *testing.T) {
	t.Parallel()
	whole, err := json.Marshal(numbered(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		before string
		want   []int
	}{
		"empty":           {"", []int{2}},
		"whole":           {string(whole) + "\n", []int{1, 2}},
		"torn":            {string(whole) + "\n" + `{"time":"20`, []int{1, 2}},
		"torn at the end": {string(whole), []int{2}},
		"all torn":        {`{"ti`, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, state.EventsName)
			if err := os.WriteFile(path, []byte(c.before), 0o644); err != nil { //nolint:gosec // a wrong mode is what is tested
				t.Fatal(err)
			}
			if failures := keepAll(&feed.File{Dir: dir}, numbered(2)); failures != nil {
				t.Error(failures)
			}
			var got []int
			for _, e := range keptEvents(t, dir) {
				got = append(got, e.PID)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("events %v, want %v", got, c.want)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v (%v)", info.Mode(), err)
			}
		})
	}
}

func TestReadEventsGoesOnAfterABadLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := `{"pid":1}` + "\nnonsense\n" + `{"pid":2}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, state.EventsName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var pids []int
	var failures []error
	for e, err := range ReadEvents(t.Context(), dir, false) {
		if err != nil {
			failures = append(failures, err)
			continue
		}
		pids = append(pids, e.PID)
	}
	if fmt.Sprint(pids) != "[1 2]" || len(failures) != 1 {
		t.Errorf("events %v, failures %v", pids, failures)
	}
	for _, err := range ReadEvents(t.Context(), dir, true) {
		if err != nil {
			t.Error(err)
		}
		break // it can be left at any time
	}
}

// What another user of the machine, or an accident, may have put in the file's place is neither written nor waited for.
func TestEventFileRefusesStrangeFiles(t *testing.T) {
	t.Parallel()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"link":   func(path string) error { return os.Symlink(victim, path) },
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, state.EventsName)
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			f := &feed.File{Dir: dir}
			if failures := keepAll(f, numbered(1), numbered(2), numbered(3)); len(failures) != 1 {
				t.Errorf("failures: %v", failures)
			}
			read := 0
			for _, err := range ReadEvents(t.Context(), dir, false) {
				if read++; err == nil {
					t.Error("an event was read")
				}
			}
			if read != 1 {
				t.Errorf("%d failures to read", read)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			keepAll(f, numbered(4))
			if events := keptEvents(t, dir); len(events) != 1 || events[0].PID != 4 || events[0].Missed != 3 {
				t.Errorf("after the place was cleared: %+v", events)
			}
		})
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "mine" {
		t.Errorf("the link's target is %q (%v)", data, err)
	}
}

// What is written can be read, whatever it is.
func TestEventFileKeepsEverything(t *testing.T) {
	t.Parallel()
	code := -1
	var events []provisioner.Event
	for _, took := range []float64{0, 1e-6, 0.000812, 1.5, 26*3600 + 1e-6, 9e7} {
		events = append(events, provisioner.Event{
			Time: time.Now().UTC().Round(0), Pool: "p", Replica: "r0", LaunchID: "l", Kind: provisioner.EventRestart, State: provisioner.StateFailed, From: provisioner.StateReady,
			Took: took, Attempt: 2, PID: 3, Cause: engine.CauseOOMGPU, ExitCode: &code, Message: "a\nb\x00\u2028\"", Missed: 4,
			Restarts: &report.Restarts{Phase: report.PhaseOpen, RetryAt: time.Now().UTC().Round(0)}, Handoff: &provisioner.Handoff{URL: "u"},
		})
	}
	dir := t.TempDir()
	if failures := keepAll(&feed.File{Dir: dir}, events...); failures != nil {
		t.Error(failures)
	}
	kept := keptEvents(t, dir)
	if len(kept) != len(events) {
		t.Fatalf("%d of %d events", len(kept), len(events))
	}
	for i := range kept {
		want, _ := json.Marshal(events[i])
		if got, _ := json.Marshal(kept[i]); string(got) != string(want) || kept[i].Took != events[i].Took {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// A manager goes on without the file, and tells it once.
func TestSuperviseWithoutEventFile(t *testing.T) {
	t.Parallel()
	cfg := briskly(fakeConfig(t, enginetest.Behavior{}))
	if err := os.MkdirAll(filepath.Join(cfg.StateDir, state.EventsName), 0o700); err != nil {
		t.Fatal(err)
	}
	s, j := superviseReady(t, cfg)
	first := s.Status()[0]
	enginetest.Kill(t, first.URL, enginetest.Death{Code: 1})
	untilReady(t, s, first.LaunchID)
	if err := s.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(j.notes(), "events go on without the file"); n != 1 {
		t.Errorf("told %d times: %s", n, j.notes())
	}
}

// The file has the events of all supervisors, and no secret in them.
func TestSupervisorsKeepTheirEvents(t *testing.T) {
	const canary = "canary-5f1e7c"
	t.Setenv("EVENTS_TEST_KEY", canary)
	cfg := briskly(fakeConfig(t, enginetest.Behavior{
		LoadTime: time.Hour, DieLoading: &enginetest.Death{Code: 1, Stderr: "bad key " + canary + "\n"},
	}))
	cfg.APIKey = &settings.SecretRef{FromEnv: "EVENTS_TEST_KEY"}
	cfg.Restart.StartBurst = 2
	dying, _ := supervised(t, []provisioner.ProvisionConfig{cfg})
	eventually(t, "the breaker is open", func() bool { return dying.Status()[0].Restarts.Phase == report.PhaseOpen })
	if err := dying.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.StateDir, "pool-r0", "restarts.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	cfg.Provisioning.Binary = &settings.Binary{Path: enginetest.Install(t, enginetest.Behavior{})}
	living, j := superviseReady(t, cfg)
	if err := living.Shutdown(bounded(t)); err != nil {
		t.Fatal(err)
	}
	kept := keptEvents(t, cfg.StateDir)
	if i := len(kept) - len(j.events); i <= 0 || formatAll(kept[i].Time) != formatAll(j.events[0].Time) {
		t.Errorf("%d events kept, the last %d should be:\n%+v", len(kept), len(j.events), j.events)
	}
	words := 0
	for path, text := range filesBelow(t, cfg.StateDir) {
		if strings.HasPrefix(filepath.Base(path), "events") {
			words += strings.Count(text, "bad key")
			if strings.Contains(text, canary) {
				t.Errorf("%s has the secret", path)
			}
		}
	}
	if words == 0 {
		t.Error("no event has the engine's last words, so nothing was tested")
	}
}
