package provisioner

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// TestUpdateRecord proves that a stop that comes too late changes neither a final record nor another launch's.
func TestUpdateRecord(t *testing.T) {
	t.Parallel()
	files := state.In(t.TempDir(), "pool-r0")
	if err := files.Create(); err != nil {
		t.Fatal(err)
	}
	late := record{Schema: state.RecordSchema, LaunchID: "a", Pool: "pool", Replica: "r0", State: StateStarting, Desired: desiredStopped, Grace: 1}
	for _, c := range []struct {
		launch  string
		state   State
		changes bool
	}{
		{"a", StateStarting, true},
		{"a", StateFailed, false},
		{"a", StateStopped, false},
		{"b", StateStarting, false},
	} {
		current := late
		current.LaunchID, current.State, current.Desired = c.launch, c.state, desiredRunning
		if err := writeRecord(files, current); err != nil {
			t.Fatal(err)
		}
		if err := updateRecord(files, late); err != nil {
			t.Error(err)
		}
		want := current
		if c.changes {
			want = late
		}
		if got, err := readRecord(files); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s:\ngot  %+v (%v)\nwant %+v", c.launch, c.state, got, err, want)
		}
	}
}

// racerFlag makes the test binary a process that changes a record racerRounds times.
const (
	racerFlag   = "-record-racer"
	racerRounds = 300
)

func racerMain() {
	if len(os.Args) != 3 || os.Args[1] != racerFlag {
		return
	}
	files := state.In(os.Args[2], "pool-r0")
	for range racerRounds {
		err := changeRecord(files, func(r record, err error) (record, bool) {
			r.Generation++
			return r, err == nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// TestChangeRecordRace has two processes change one record: no change may be lost.
func TestChangeRecordRace(t *testing.T) {
	t.Parallel()
	files := state.In(t.TempDir(), "pool-r0")
	if err := files.Create(); err != nil {
		t.Fatal(err)
	}
	if err := writeRecord(files, record{Schema: state.RecordSchema, LaunchID: "a", Pool: "pool", Replica: "r0"}); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	racers := [2]*exec.Cmd{}
	for i := range racers {
		racers[i] = exec.Command(exe, racerFlag, files.State)
		racers[i].Stderr = os.Stderr
		if err := racers[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, racer := range racers {
		if err := racer.Wait(); err != nil {
			t.Error(err)
		}
	}
	if rec, err := readRecord(files); err != nil || rec.Generation != 2*racerRounds {
		t.Errorf("%d changes are left of %d (%v)", rec.Generation, 2*racerRounds, err)
	}
}

// The causes in a record are read when they are asked for, and outlive the changes of those who do not ask.
func TestRecordedCauses(t *testing.T) {
	t.Parallel()
	files := state.In(t.TempDir(), "pool-r0")
	if err := files.Create(); err != nil {
		t.Fatal(err)
	}
	rec := record{Schema: state.RecordSchema, LaunchID: "a", Pool: "pool", Replica: "r0"}
	rec.Launch.Spec.Causes = []engine.CausePattern{{Cause: engine.CauseOOMGPU, Pattern: engine.AnyOf(`out of memory`), Advice: "less"}}
	if err := writeRecord(files, rec); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := changeRecord(state.In(files.State, files.Stem), func(r record, err error) (record, bool) {
			if err != nil {
				t.Error(err)
			}
			r.Generation++
			return r, true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := readRecord(state.In(files.State, files.Stem))
	if err != nil {
		t.Fatal(err)
	}
	causes := got.Launch.Spec.whole().Causes
	if got.Generation != 2 || len(causes) != 1 || causes[0].Cause != engine.CauseOOMGPU || causes[0].Advice != "less" || !causes[0].Pattern.MatchString("CUDA: out of memory") {
		t.Errorf("generation %d, causes %+v", got.Generation, causes)
	}
}
