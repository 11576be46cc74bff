package provisioner

import (
	"reflect"
	"testing"
)

// TestUpdateRecord proves that a stop that comes too late changes neither a final record nor another launch's.
func TestUpdateRecord(t *testing.T) {
	t.Parallel()
	files := replicaFiles{state: t.TempDir(), stem: "pool-r0"}
	if err := files.create(); err != nil {
		t.Fatal(err)
	}
	late := record{Schema: recordSchema, LaunchID: "a", Pool: "pool", Replica: "r0", State: StateStarting, Desired: desiredStopped, Grace: 1}
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
		if err := files.writeRecord(current); err != nil {
			t.Fatal(err)
		}
		if err := files.updateRecord(late); err != nil {
			t.Error(err)
		}
		want := current
		if c.changes {
			want = late
		}
		if got, err := files.readRecord(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s:\ngot  %+v (%v)\nwant %+v", c.launch, c.state, got, err, want)
		}
	}
}
