package provisioner

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/life"
	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/witness"
	"github.com/llama-orch/engine-provisioner/settings"
)

// withSpace has free space be what is said instead of what it is.
func withSpace(free func() uint64) Option {
	return func(o *options) {
		o.space = func(string) (uint64, uint64, error) { return free(), 100 << 30, nil }
	}
}

// checkFlood fails the test unless the log ends with numbered lines of a flood without a gap, and returns how many
// bytes they are.
func checkFlood(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(strings.TrimLeft(string(data), "\x00"), "\n")
	lines, last := 0, -1
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "flood ") {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(line, "flood %d", &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if last >= 0 && n != last+1 || !strings.HasSuffix(line, "f\n") {
			t.Fatalf("line %d comes after line %d", n, last)
		}
		lines, last = lines+1, n
	}
	return lines * 100
}

// TestLogFlood has an engine log 12 MiB a second. Its log stays within the limit and a second's flood, nothing of its end
// is lost, and the engine works on.
func TestLogFlood(t *testing.T) {
	t.Parallel()
	const rate, limit = 12 << 20, 4 << 20
	cfg := fakeConfig(t, enginetest.Behavior{LogFlood: rate})
	floodCapped(t, cfg, rate, limit)
}

func floodCapped(t *testing.T, cfg ProvisionConfig, rate int, limit settings.Size) {
	t.Helper()
	cfg.Logs = settings.Logs{MaxSize: limit}
	p, j := ready(t, cfg, withSpace(func() uint64 { return 50 << 30 }))
	path := p.Status().Log
	// Between two cuts the log takes no more than the limit and a second's flood. On a machine that is busy with other
	// tests a second can be late, so that the lowest peak counts.
	var peak, fell, before int64
	lowest := int64(1) << 62
	for began := time.Now(); fell < 3 || lowest > int64(limit)+int64(rate); time.Sleep(5 * time.Millisecond) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		used := logcap.Usage(info)
		if used < before-int64(limit)/4 {
			fell++
			lowest, peak = min(lowest, peak), 0
		}
		peak, before = max(peak, used), used
		if time.Since(began) > 4*patience {
			t.Fatalf("it was cut %d times, at %d bytes or more, and takes %d", fell, lowest, used)
		}
	}
	if status := statusAt(t, p.Status().URL+"/health"); status != 200 {
		t.Errorf("the engine answers %d", status)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if size := checkFlood(t, path); size < int(limit)/2 {
		t.Errorf("only %d bytes are left", size)
	}
	if info, err := os.Stat(path); err != nil || logcap.Usage(info) > int64(limit)+logcap.Block {
		t.Errorf("after the end the log takes %d bytes (%v)", logcap.Usage(info), err)
	}
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

// A log that somebody removes stays within its limit, is told once, and can be read as long as the engine lives: also
// by whoever comes later.
func TestRemovedLog(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	cfg := fakeConfig(t, enginetest.Behavior{LogFlood: 4 << 20})
	cfg.Logs = settings.Logs{MaxSize: limit}
	p, j := ready(t, cfg, withSpace(func() uint64 { return 50 << 30 }))
	path := p.Status().Log
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal is seen", func() bool { return p.run.nameless.Load() != nil })
	capped := func(file *os.File) {
		t.Helper()
		before, falls := int64(0), 0
		eventually(t, "it is cut again and again", func() bool {
			info, err := file.Stat()
			if err != nil {
				t.Fatal(err)
			}
			used := logcap.Usage(info)
			if used < before-limit/4 {
				falls++
			}
			before = used
			return falls > 2
		})
	}
	capped(p.run.nameless.Load())
	eventually(t, "its end can be read", func() bool { // not in the moment of a cut
		last := p.run.logEnd()
		return len(last) > 0 && strings.HasPrefix(last[len(last)-1], "flood ")
	})
	if notes := j.notes(); strings.Count(notes, "was removed") != 1 {
		t.Errorf("notes: %s", notes)
	}
	p.Release()
	next, err := Attach(cfg.StateDir, poolR0, withSpace(func() uint64 { return 50 << 30 }))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next one finds it", func() bool { return next.run.nameless.Load() != nil })
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there again: %v", err)
	}
	if _, err := next.run.inst.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, next)
	exit, ok := errors.AsType[*ExitError](next.Err())
	if !ok || len(exit.LogTail) == 0 || !strings.HasPrefix(exit.LogTail[0], "flood ") {
		t.Errorf("its last words are lost: %v", next.Err())
	}
	nothingLeft(t, next)
}

// A log that logrotate renames, with a new one in its place, is the engine's log all the same.
func TestRenamedLog(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	cfg := fakeConfig(t, enginetest.Behavior{LogFlood: 4 << 20})
	cfg.Logs = settings.Logs{MaxSize: limit}
	p, j := ready(t, cfg, withSpace(func() uint64 { return 50 << 30 }))
	path := p.Status().Log
	watch := witness.NewLog(p.run.seen())
	signs := watch.Look()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, held := range []bool{true, false} { // also by whoever comes later
		if !held {
			p.Release()
			var err error
			if p, err = Attach(cfg.StateDir, poolR0, WithEventFunc(j.add), withSpace(func() uint64 { return 50 << 30 })); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the new name is seen", func() bool { return p.run.nameless.Load() != nil })
		before, falls := int64(0), 0
		eventually(t, "it is cut again and again", func() bool {
			info, err := os.Stat(path + ".1")
			if err != nil {
				t.Fatal(err)
			}
			used := logcap.Usage(info)
			if used < before-limit/4 {
				falls++
			}
			before = used
			return falls > 2
		})
		now := loaded(p).Log
		eventually(t, "its growth is progress", func() bool { return loaded(p).Log > now })
		if held {
			eventually(t, "its growth is a sign of work", func() bool { return watch.Look() > signs })
		}
	}
	renamed := fmt.Sprintf("the log %q was renamed to %q", path, path+".1")
	if notes := j.notes(); strings.Count(notes, renamed) != 2 || strings.Contains(notes, "was removed") {
		t.Errorf("notes: %s", notes)
	}
	if err := os.Remove(path + ".1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal is told, too", func() bool { return strings.Contains(j.notes(), "was removed") })
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("another's file was touched: %v, %v", info, err)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

// A load shows its progress in a log that was removed, too.
func TestRemovedLogShowsProgress(t *testing.T) {
	t.Parallel()
	p, _ := started(t, fakeConfig(t, enginetest.Behavior{LoadTime: time.Hour, StallLog: 10 * time.Millisecond}))
	if err := os.Remove(p.run.rec.Log); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal is seen", func() bool { return p.run.nameless.Load() != nil })
	now := loaded(p).Log
	eventually(t, "the log grows", func() bool { return loaded(p).Log > now })
	eventually(t, "its beginning can be read", func() bool { return len(p.run.log()) > 0 })
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
}

func TestPruneLogs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		keep   int
		failed int64
		want   []int64
	}{
		{5, 0, []int64{3, 4, 5, 6, 7}},
		{5, 1, []int64{1, 4, 5, 6, 7}},
		{5, 6, []int64{3, 4, 5, 6, 7}},
		{2, 1, []int64{1, 7}},
		{1, 1, []int64{7}},
		{9, 1, []int64{1, 2, 3, 4, 5, 6, 7}},
	} {
		files := state.In(t.TempDir(), "pool-r0")
		if err := files.Create(); err != nil {
			t.Fatal(err)
		}
		for n := int64(1); n <= 7; n++ {
			f, _, err := files.OpenLog(n)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		err := files.PruneLogs(c.keep, c.failed)
		if got, _ := files.LogNumbers(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("keep %d, failed %d: left are %v (%v), want %v", c.keep, c.failed, got, err, c.want)
		}
	}
}

// TestFailedLogSurvivesRestarts: what was wrong can be read after many good launches.
func TestFailedLogSurvivesRestarts(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{DieLoading: &enginetest.Death{Code: 3, Stderr: "the reason"}})
	cfg.Logs.Keep = 2
	p, _ := started(t, cfg)
	awaitDone(t, p)
	log := p.Status().Log
	good := fakeConfig(t, enginetest.Behavior{})
	cfg.Provisioning = good.Provisioning
	for range 3 {
		p, _ := ready(t, cfg)
		if err := p.Stop(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := os.ReadFile(log); err != nil || !strings.Contains(string(data), "the reason") {
		t.Errorf("the failed launch's log is %q (%v)", data, err)
	}
	files, err := filesOf(cfg.StateDir, "pool-r0")
	if err != nil {
		t.Fatal(err)
	}
	if numbers, err := files.LogNumbers(); err != nil || !slices.Equal(numbers, []int64{1, 4}) {
		t.Errorf("logs %v (%v)", numbers, err)
	}
}

// TestLittleSpace: the note comes once, and the log is cut to 1 MiB.
func TestLittleSpace(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{LogFlood: 4 << 20})
	p, j := ready(t, cfg, withSpace(func() uint64 { return 1 << 20 }))
	eventually(t, "a cut", func() bool {
		info, err := os.Stat(p.Status().Log)
		return err == nil && logcap.Usage(info) < info.Size() || err == nil && info.Size() > 4<<20
	})
	if err := p.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if size := checkFlood(t, p.Status().Log); size > 1<<20 {
		t.Errorf("%d bytes are left", size)
	}
	if notes := j.notes(); strings.Count(notes, "has only 1 MiB left") != 1 {
		t.Errorf("notes: %s", notes)
	}
}

// loaded is what shows that a load goes on.
func loaded(p *EngineProvisioner) life.Facts {
	now, _ := p.run.progress()
	return now
}
