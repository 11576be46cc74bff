package provisioner

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// The end of a stop can be seen in the record before the engine's end is seen. Its program has not died.
func TestAStopThatIsOverIsNotFinished(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	p.keeping.Lock() // by this test alone
	defer p.keeping.Unlock()
	for state, want := range map[State]bool{StateStopping: true, StateStopped: false} {
		rec := p.run.rec
		rec.Desired, rec.State = desiredStopped, state
		if err := writeRecord(p.run.files, rec); err != nil {
			t.Fatal(err)
		}
		p.looked = nil
		if got := p.halfStopped(recordOf(t, p)); got != want {
			t.Errorf("%s: is there a stop to be finished: %v", state, got)
		}
	}
	rec := p.run.rec
	rec.Desired, rec.State = desiredStopped, StateStopping
	if err := writeRecord(p.run.files, rec); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(p.run.files.StopLock()), os.Mkdir(p.run.files.StopLock(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if p.looked = nil; p.halfStopped(recordOf(t, p)) {
		t.Error("a stop of which nobody can tell is finished")
	}
}

// recordOf is the file of a launch's record.
func recordOf(t *testing.T, p *EngineProvisioner) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(p.run.files.Record())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// A manager and a stop end the same launch: who finds the other at the record waits for it.
func TestPutAwayBesideAnother(t *testing.T) {
	t.Parallel()
	p, _ := ready(t, fakeConfig(t, enginetest.Behavior{}))
	if err := p.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	lock, err := p.run.files.Lock()
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(500*time.Millisecond, lock.Release)
	if err := p.run.putAway(StateStopped, true, &ending{rec: p.run.rec}); err != nil {
		t.Error(err)
	}
}
