package provisioner

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// abandoned is a launch whose provisioner is gone, as after a SIGKILL: nothing was let go or cleaned up. reap must be
// called by whoever ends the engine, which is this process's child.
func abandoned(t *testing.T, cfg ProvisionConfig) *EngineProvisioner {
	t.Helper()
	p, _ := ready(t, cfg)
	p.Release()
	t.Cleanup(func() { _ = p.run.host().Leader.Child().Kill(); _, _ = p.run.host().Leader.Child().Wait() })
	return p
}

// An adopted engine that dies by itself leaves nothing either: a vLLM whose worker was killed leaves 250 MB in memory.
func TestAdoptedEngineLeavesNoShm(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{Shm: 4096})
	first := abandoned(t, cfg)
	adopted, _, err := Recover(bounded(t), cfg.StateDir, WithCacheDir(t.TempDir()))
	if err != nil || len(adopted) != 1 {
		t.Fatal(adopted, err)
	}
	pid := adopted[0].Status().PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, _ = first.run.host().Leader.Child().Wait()
	awaitDone(t, adopted[0])
	if _, err := os.Lstat("/dev/shm/enginetest-" + itoa(pid)); err == nil {
		t.Error("an object is left in /dev/shm")
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{{Kind: enginetest.NewSession}}})
	p := abandoned(t, cfg)
	children := enginetest.Inspect(t, p.handoff.URL).Children

	attached, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	want := p.Status()
	got := attached.Status()
	if got.State != StateReady || got.PID != want.PID || got.LaunchID != want.LaunchID || got.Log != want.Log {
		t.Errorf("attached to %+v, want %+v", got, want)
	}
	if err := attached.Start(bounded(t)); !errors.Is(err, ErrStarted) {
		t.Errorf("Start of an attached launch: %v", err)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if alive(children[0]) {
		t.Error("the child is alive")
	}
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
	if _, err := Attach(cfg.StateDir, poolR0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Attach to what was stopped: %v", err)
	}
	if _, err := Attach(cfg.StateDir, ReplicaID{Pool: "pool", Replica: "r1"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Attach to what never was: %v", err)
	}
}

// Another program stops an engine within the limits of its record.
func TestAttachTakesTheLimitsOfTheRecord(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Drain.Timeout, cfg.Stop.Grace = new(settings.Duration(7*time.Second)), settings.Duration(11*time.Second)
	ready(t, cfg)
	p, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if drain, grace := p.stopTimes(p.run, true); drain != 7*time.Second || grace != 11*time.Second {
		t.Errorf("it drains for %s, with a grace of %s", drain, grace)
	}
}

// A provisioner sees that another command has stopped its engine, and does not call it a crash.
func TestStoppedByAnotherCommand(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p, j := ready(t, cfg)
	other, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	awaitDone(t, p)
	if err := p.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
	nothingLeft(t, p)
	wantStates(t, j, StatePreparing, StateStarting, StateReady, StateStopping, StateStopped)
}

func TestAttachToALoadingEngine(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour})
	started(t, cfg)
	attached, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attached.WaitReady(bounded(t)); !errors.Is(err, ErrBusy) {
		t.Errorf("WaitReady: %v", err)
	}
	if s := attached.Status().State; s != StateStarting {
		t.Errorf("state %s", s)
	}
	attached.Release()
}

// An engine that died unwatched leaves a handoff that lies. Attach and Start clear it away.
func TestDiedUnwatched(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p := abandoned(t, cfg)
	if err := syscall.Kill(p.handoff.Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Fatal(err)
	}
	all, err := Statuses(cfg.StateDir)
	if err != nil || len(all) != 1 || all[0].State != StateFailed || all[0].PID != 0 || !strings.Contains(all[0].Exit, "no provisioner watched") {
		t.Errorf("statuses %+v (%v)", all, err)
	}
	if _, err := Attach(cfg.StateDir, poolR0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Attach: %v", err)
	}
	nothingLeft(t, p)
	if after, err := Statuses(cfg.StateDir); err != nil || len(after) != 1 || after[0].State != StateFailed || after[0].Exit != diedUnwatched {
		t.Errorf("after Attach: %+v (%v)", after, err)
	}
}

func TestStartAfterDeathUnwatched(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	p := abandoned(t, cfg)
	if err := syscall.Kill(p.handoff.Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Fatal(err)
	}
	again, _ := ready(t, cfg)
	if again.handoff.Generation != 2 {
		t.Errorf("generation %d", again.handoff.Generation)
	}
	if _, err := os.Stat(p.run.rec.TempDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead launch's temporary folder is left: %v", err)
	}
}

// Workers that outlive their dead leader hold the GPU: they are found by their mark, a start is refused, a stop ends them.
func TestWorkersWithoutLeader(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{
		{Kind: enginetest.OwnGroup, CloseFDs: true, IgnoreTerm: true}, {Kind: enginetest.DoubleFork, CloseFDs: true},
	}})
	p := abandoned(t, cfg)
	children := enginetest.Inspect(t, p.handoff.URL).Children
	if err := syscall.Kill(p.handoff.Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Fatal(err)
	}
	next, _ := newLaunch(t, cfg)
	if err := next.Start(bounded(t)); !errors.Is(err, ErrBusy) {
		t.Errorf("Start beside the workers: %v", err)
	}
	attached, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	for _, pid := range children {
		if alive(pid) {
			t.Errorf("worker %d is alive", pid)
		}
	}
	nothingLeft(t, p)
}

// Python's workers carry no mark once setproctitle has run, and hold no lock. Their dead leader's session and the log tell them.
func TestUnmarkedWorkersWithoutLeader(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{
		{CloseFDs: true, ClearEnv: true, HoldStdout: true}, {CloseFDs: true, ClearEnv: true, HoldStdout: true, Kind: enginetest.OwnGroup},
	}})
	p := abandoned(t, cfg)
	children := enginetest.Inspect(t, p.handoff.URL).Children
	if err := syscall.Kill(p.handoff.Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Fatal(err)
	}
	next, _ := newLaunch(t, cfg)
	if err := next.Start(bounded(t)); !errors.Is(err, ErrBusy) {
		t.Errorf("Start beside the workers: %v", err)
	}
	attached, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	for _, pid := range children {
		if alive(pid) {
			t.Errorf("worker %d is alive", pid)
		}
	}
	nothingLeft(t, p)
}

// A provisioner that was killed between the start and the record of the process leaves a record without a pid.
func TestRecordWithoutPID(t *testing.T) {
	t.Parallel()
	// Workers that lead sessions, too, must not be taken for the leader.
	cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{
		{Kind: enginetest.NewSession}, {Kind: enginetest.NewSession}, {Kind: enginetest.DoubleFork},
	}})
	p := abandoned(t, cfg)
	rec := p.run.rec
	rec.State, rec.Process = StatePreparing, proc.ID{}
	if err := writeRecord(p.run.files, rec); err != nil {
		t.Fatal(err)
	}
	attached, err := Attach(cfg.StateDir, poolR0)
	if err != nil {
		t.Fatal(err)
	}
	if got := attached.Status().PID; got != p.handoff.Process.PID {
		t.Errorf("found pid %d, want %d", got, p.handoff.Process.PID)
	}
	if err := attached.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if _, err := p.run.host().Leader.Child().Wait(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// A record that names somebody else's process must never lead to a signal.
func TestForgedRecords(t *testing.T) {
	t.Parallel()
	forge := map[string]func(*proc.ID){
		"other ticks":     func(id *proc.ID) { id.StartTicks++ },
		"other boot":      func(id *proc.ID) { id.BootID = "0" },
		"other namespace": func(id *proc.ID) { id.PIDNS = "pid:[1]" },
		"other pidfd":     func(id *proc.ID) { id.PidfdIno++ },
		"init":            func(id *proc.ID) { id.PID = 1 },
		"no process":      func(id *proc.ID) { id.PID = 0 },
		"negative":        func(id *proc.ID) { id.PID = -1 },
	}
	for name, change := range forge {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stranger := exec.Command("sleep", "600")
			if err := stranger.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
			held, err := proc.Hold(stranger.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			held.Close()
			rec := testRecord(t)
			rec.Process = held.ID
			change(&rec.Process)
			files := state.In(t.TempDir(), "pool-r0")
			if err := errors.Join(files.Create(), writeRecord(files, rec)); err != nil {
				t.Fatal(err)
			}
			if _, err := Attach(files.State, poolR0); !errors.Is(err, ErrNotRunning) {
				t.Errorf("Attach: %v", err)
			}
			if !alive(stranger.Process.Pid) {
				t.Error("the stranger is dead")
			}
		})
	}
}

func testRecord(t *testing.T) record {
	return record{
		Schema: state.RecordSchema, Generation: 1, Desired: desiredRunning, State: StateStarting, LaunchID: proc.NewMark(),
		Pool: "pool", Replica: "r0", Engine: "llamacpp", Host: "127.0.0.1", Port: enginetest.FreePort(t, 1), Grace: settings.Duration(time.Second),
		StartedAt: time.Now(),
	}
}

func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ content, text string }{
		"not JSON":      {"{", "cannot read the record"},
		"empty":         {"", "cannot read the record"},
		"no schema":     {`{"launch_id":"x","pool":"pool","replica":"r0"}`, "schema 0, this version knows 2"},
		"other replica": {`{"schema":1,"launch_id":"x","pool":"pool","replica":"r7"}`, `not the record of "pool-r0"`},
		"huge":          {strings.Repeat(" ", 1<<20+1), "larger than 1 MiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			files, err := filesOf(cfg.StateDir, "pool-r0")
			if err := errors.Join(err, files.Create(), os.WriteFile(files.Record(), []byte(test.content), 0o600)); err != nil {
				t.Fatal(err)
			}
			_, err = Attach(cfg.StateDir, poolR0)
			wantText(t, err, "cannot attach to pool/r0", test.text)
			if _, err := Statuses(cfg.StateDir); err == nil {
				t.Error("Statuses is silent about it")
			}
			// A damaged record does not keep the replica from starting: the lock tells that nothing of it runs.
			_, j := ready(t, cfg)
			if !strings.Contains(j.notes(), test.text) {
				t.Errorf("notes: %q", j.notes())
			}
		})
	}
	t.Run("of a newer version", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{})
		files, err := filesOf(cfg.StateDir, "pool-r0")
		content := `{"schema":99,"launch_id":["x"],"pool":"pool","replica":"r0"}`
		if err := errors.Join(err, files.Create(), os.WriteFile(files.Record(), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		p, _ := newLaunch(t, cfg)
		wantText(t, p.Start(bounded(t)), "it was written by a newer version (schema 99, this version knows 2); use that version")
		if data, err := os.ReadFile(files.Record()); err != nil || string(data) != content {
			t.Errorf("it was replaced by %q (%v)", data, err)
		}
	})
	t.Run("of a living engine", func(t *testing.T) {
		t.Parallel()
		cfg := fakeConfig(t, enginetest.Behavior{})
		was := abandoned(t, cfg)
		files := was.run.files
		if err := os.Truncate(files.Record(), 30); err != nil {
			t.Fatal(err)
		}
		p, _ := newLaunch(t, cfg)
		err := p.Start(bounded(t))
		wantText(t, err, "remove the file: the next manager ends the engine")
		if !errors.Is(err, ErrBusy) {
			t.Errorf("Start: %v", err)
		}
		_, err = Attach(cfg.StateDir, poolR0)
		wantText(t, err, "remove the file: the next manager ends the engine")
		if err := os.Remove(files.Record()); err != nil { // as it says
			t.Fatal(err)
		}
		if _, found, err := Recover(bounded(t), cfg.StateDir); err != nil || len(found) != 1 || found[0].Result != report.RecoveredStopped {
			t.Errorf("%+v (%v)", found, err)
		}
		ready(t, cfg)
		if alive(was.run.host().Leader.PID) {
			t.Error("the engine of the lost record runs beside the new one")
		}
	})
	t.Run("a link", func(t *testing.T) {
		t.Parallel()
		files := state.In(t.TempDir(), "pool-r0")
		data, _ := json.Marshal(testRecord(t))
		target := filepath.Join(t.TempDir(), "target")
		if err := errors.Join(files.Create(), os.WriteFile(target, data, 0o600), os.Symlink(target, files.Record())); err != nil {
			t.Fatal(err)
		}
		if _, err := readRecord(files); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("a planted link was followed: %v", err)
		}
	})
	t.Run("a pipe", func(t *testing.T) {
		t.Parallel()
		files := state.In(t.TempDir(), "pool-r0")
		if err := errors.Join(files.Create(), syscall.Mkfifo(files.Record(), 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := readRecord(files)
		wantText(t, err, "it is a pipe")
	})
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	if all, err := Statuses(filepath.Join(t.TempDir(), "nothing")); err != nil || all != nil {
		t.Errorf("an absent state directory: %v, %v", all, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := Statuses(file); err == nil || len(all) > 0 {
		t.Errorf("a state directory that cannot be read: %v, %v", all, err)
	}
	cfg := fakeConfig(t, enginetest.Behavior{})
	second := fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour})
	second.StateDir, second.ReplicaID = cfg.StateDir, "r1"
	first, _ := ready(t, cfg)
	loading, _ := started(t, second)
	all, err := Statuses(cfg.StateDir)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if all[0].Replica != "r0" || all[0].State != StateReady || all[0].PID != first.Status().PID || all[0].URL != first.handoff.URL {
		t.Errorf("r0: %+v", all[0])
	}
	if all[1].Replica != "r1" || all[1].State != StateStarting || all[1].PID != loading.Status().PID {
		t.Errorf("r1: %+v", all[1])
	}
	if err := first.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	all, err = Statuses(cfg.StateDir)
	if err != nil || all[0].State != StateStopped || all[0].PID != 0 || all[0].Exit != "code 0" {
		t.Errorf("after the stop: %+v, %v", all, err)
	}
}

// A start that is under way has a record and no process yet. Nothing has failed.
func TestStatusOfAStart(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	seen := make(chan []Status, 1)
	p, err := New(cfg, func(o *options) {
		o.Hooks.Failpoint = func(name string) {
			if name == "after_record" {
				all, err := Statuses(cfg.StateDir)
				if err != nil {
					t.Error(err)
				}
				seen <- all
			}
		}
	})
	if err == nil {
		err = p.Start(bounded(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	if all := <-seen; len(all) != 1 || all[0].State != StatePreparing || all[0].PID != 0 {
		t.Errorf("%+v", all)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
}

// The exit of an engine that is not this process's child is known all the same.
func TestAdoptedExit(t *testing.T) {
	t.Parallel()
	for name, death := range map[string]enginetest.Death{"code 7": {Code: 7}, "signal: segmentation fault": {Signal: syscall.SIGSEGV}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{})
			p := abandoned(t, cfg)
			attached, err := Attach(cfg.StateDir, poolR0)
			if err != nil {
				t.Fatal(err)
			}
			enginetest.Kill(t, p.handoff.URL, death)
			awaitDone(t, attached)
			rec, err := readRecord(p.run.files)
			if err != nil || rec.Exit != name {
				t.Errorf("exit %q (%v), want %q", rec.Exit, err, name)
			}
		})
	}
}

// TestRecoverWithoutRecord loses the record of engines: one that nobody can watch or stop must not run on.
func TestRecoverWithoutRecord(t *testing.T) {
	t.Parallel()
	lose := map[string]func(f state.Files) error{
		"record":  func(f state.Files) error { return os.Remove(f.Record()) },
		"handoff": func(f state.Files) error { return errors.Join(os.Remove(f.Record()), os.Remove(f.Handoff())) },
		"folder":  func(f state.Files) error { return os.RemoveAll(f.Dir()) },
	}
	for name, forget := range lose {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{{Kind: enginetest.NewSession}}})
			p := abandoned(t, cfg)
			worker := enginetest.Inspect(t, p.handoff.URL).Children[0]
			if err := forget(p.run.files); err != nil {
				t.Fatal(err)
			}
			adopted, found, err := Recover(bounded(t), cfg.StateDir)
			if err != nil || len(adopted) > 0 || len(found) != 1 || found[0].Result != report.RecoveredStopped {
				t.Fatalf("%v, %+v (%v)", adopted, found, err)
			}
			if alive(p.run.host().Leader.PID) || alive(worker) || access.Exists(p.run.files.Handoff()) || access.Exists(p.run.rec.TempDir) {
				t.Error("something is left")
			}
			if adopted, found, err := Recover(bounded(t), cfg.StateDir); err != nil || len(adopted)+len(found) > 0 {
				t.Errorf("again: %v, %+v (%v)", adopted, found, err)
			}
			next, _ := ready(t, cfg)
			if err := next.Stop(bounded(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who holds the lock without the mark of a launch is a stranger, and is left alone.
func TestRecoverLeavesStrangers(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	files, err := filesOf(cfg.StateDir, "pool-r0")
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Create(); err != nil {
		t.Fatal(err)
	}
	lock, err := files.Lock()
	if err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command("cat")
	stranger.ExtraFiles = []*os.File{lock.Share()}
	in, err := stranger.StdinPipe()
	if err == nil {
		err = stranger.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	_, found, err := Recover(bounded(t), cfg.StateDir)
	if err != nil || len(found) != 1 || found[0].Result != report.RecoveredUnknown || !errors.Is(found[0].Err, ErrBusy) {
		t.Errorf("%+v (%v)", found, err)
	}
	if err := errors.Join(in.Close(), stranger.Wait()); err != nil {
		t.Errorf("the stranger did not end by itself: %v", err)
	}
}

// What an engine has inherited unasked, and writes at its end, is in no error: of who started it, and of who adopted it with another
// environment.
func TestInheritedSecretsStaySecret(t *testing.T) {
	const canary = "canary-7f3a"
	for _, adopt := range []bool{false, true} {
		t.Setenv("HTTPS_PROXY", "http://me:"+canary+"@127.0.0.1:9")
		cfg := fakeConfig(t, enginetest.Behavior{LogEnv: true})
		var p *EngineProvisioner
		if !adopt {
			p, _ = ready(t, cfg)
		} else {
			abandoned(t, cfg)
			t.Setenv("HTTPS_PROXY", "")
			adopted, _, err := Recover(bounded(t), cfg.StateDir, WithCacheDir(t.TempDir()))
			if err != nil || len(adopted) != 1 {
				t.Fatal(adopted, err)
			}
			p = adopted[0]
		}
		pid := p.Status().PID
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitDone(t, p)
		if lines := strings.Join(p.run.log(), "\n"); strings.Contains(lines, canary) || !strings.Contains(lines, redact.Word) {
			t.Errorf("adopted %v: %q", adopt, lines)
		}
		if text := formatAll(p.Err()); strings.Contains(text, canary) {
			t.Errorf("adopted %v: the canary is in %q", adopt, text)
		}
	}
}
