package share

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// copyIn is the copy of chat-r0 of a state directory.
func copyIn(t *testing.T, dir, stateDir string) Copy {
	t.Helper()
	c, err := Of(Copy{Dir: dir, TTL: 9 * time.Second, Stem: "chat-r0", State: stateDir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type handoff struct {
	URL   string        `json:"url"`
	Lease *report.Lease `json:"lease,omitempty"`
}

func at(url string) func(report.Lease) any {
	return func(l report.Lease) any { return handoff{url, &l} }
}

func read(t *testing.T, c Copy) (h handoff) {
	t.Helper()
	data, err := os.ReadFile(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// A copy is there while the replica is ready, is renewed every third of its lease, follows what changes, and is gone after.
func TestKeep(t *testing.T) {
	dir, stateDir := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := copyIn(t, dir, stateDir)
		var now atomic.Pointer[string]
		over, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			c.Keep(over, func() (func(report.Lease) any, bool) {
				url := now.Load()
				if url == nil {
					return nil, false
				}
				return at(*url), true
			}, func(text string) { t.Error(text) })
		}()
		say := func(url string) { now.Store(&url) }
		time.Sleep(1500 * time.Millisecond)
		if _, err := os.Stat(c.Path()); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("a copy of what is not ready")
		}
		say("http://a")
		time.Sleep(time.Second)
		first := read(t, c)
		if first.URL != "http://a" || first.Lease.TTL != 9 || first.Lease.Node == "" || first.Lease.Owner == "" || !first.Lease.Holds(time.Now()) {
			t.Fatalf("%+v, %+v", first, first.Lease)
		}
		time.Sleep(time.Second)
		if again := read(t, c); !again.Lease.RenewedAt.Equal(first.Lease.RenewedAt) {
			t.Error("renewed before its time")
		}
		time.Sleep(2 * time.Second)
		if again := read(t, c); !again.Lease.RenewedAt.After(first.Lease.RenewedAt) {
			t.Error("not renewed")
		}
		say("http://b")
		time.Sleep(time.Second)
		if got := read(t, c); got.URL != "http://b" {
			t.Errorf("%+v", got)
		}
		if err := os.Remove(c.Path()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := read(t, c); got.URL != "http://b" {
			t.Errorf("removed by somebody: %+v", got)
		}
		now.Store(nil)
		time.Sleep(time.Second)
		if _, err := os.Stat(c.Path()); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the copy outlives the readiness")
		}
		close(over)
		<-ended
	})
}

// What another state directory renews under the same name is neither overwritten nor removed, and taken over once its lease is over.
func TestAnotherOwner(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := copyIn(t, dir, t.TempDir()), copyIn(t, dir, t.TempDir())
	owner, err := state.MakeID(theirs.State)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.write(owner, at("http://theirs")); err != nil {
		t.Fatal(err)
	}
	k := keeper{Copy: ours}
	var foreign *foreignError
	if err := k.look(at("http://ours"), true); !errors.As(err, &foreign) || !strings.Contains(err.Error(), "give the replica, or the machine, another name") {
		t.Fatalf("%v", err)
	}
	if err := errors.Join(k.look(nil, false), ours.Remove()); err != nil || read(t, ours).URL != "http://theirs" {
		t.Fatalf("%v", err)
	}
	old := theirs
	old.TTL = 0
	if err := old.write(owner, at("http://theirs")); err != nil { // a lease that is over at once
		t.Fatal(err)
	}
	if err := k.look(at("http://ours"), true); err != nil || read(t, ours).URL != "http://ours" {
		t.Fatalf("%v", err)
	}
}

// A folder that is not there is not made, what is planted at the file is not followed, and it works again when that is gone.
func TestHindrances(t *testing.T) {
	top := t.TempDir()
	c := copyIn(t, filepath.Join(top, "mount"), t.TempDir())
	k := keeper{Copy: c}
	if err := k.look(at("http://a"), true); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v", err)
	}
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(top, "precious")
	if err := errors.Join(os.WriteFile(precious, []byte("{}"), 0o600), os.Symlink(precious, c.Path())); err != nil {
		t.Fatal(err)
	}
	_ = k.look(at("http://a"), true) // refused or replaced
	if data, err := os.ReadFile(precious); err != nil || string(data) != "{}" {
		t.Fatalf("%q, %v", data, err)
	}
	if err := errors.Join(os.RemoveAll(c.Path()), k.look(at("http://a"), true)); err != nil || read(t, c).URL != "http://a" {
		t.Fatalf("%v", err)
	}
}

// Copies that this state directory left of replicas that are no more go once their leases are over; those of others stay.
func TestSweep(t *testing.T) {
	dir, stateDir := t.TempDir(), t.TempDir()
	c := copyIn(t, dir, stateDir)
	owner, err := state.MakeID(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	gone, foreign, held := c, c, c
	gone.Stem, foreign.Stem, held.Stem = "gone-r0", "foreign-r0", "held-r0"
	gone.TTL, foreign.TTL = 0, 0
	if err := errors.Join(gone.write(owner, at("x")), foreign.write("another", at("x")), held.write(owner, at("x"))); err != nil {
		t.Fatal(err)
	}
	k := keeper{Copy: c}
	if err := k.look(at("http://a"), true); err != nil {
		t.Fatal(err)
	}
	for path, there := range map[string]bool{gone.Path(): false, foreign.Path(): true, held.Path(): true} {
		if _, err := os.Stat(path); (err == nil) != there {
			t.Errorf("%s: %v", path, err)
		}
	}
}
