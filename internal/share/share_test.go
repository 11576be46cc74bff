package share

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

// What another state directory renews under the same name is neither overwritten nor removed, whatever its clock says, and taken over
// once this machine has seen for the whole of its term that nobody renews it.
func TestAnotherOwner(t *testing.T) {
	dir, ourState, theirState := t.TempDir(), t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := keeper{Copy: copyIn(t, dir, ourState)}, copyIn(t, dir, theirState)
		behind := func() { // written now, by a clock that is a minute behind
			t.Helper()
			put(t, theirs, at("http://theirs")(report.Lease{Node: theirs.node, Owner: "\x1b[2Jtheirs", RenewedAt: time.Now().Add(-time.Minute), TTL: 9}))
		}
		for range 5 {
			behind()
			for range 8 {
				var foreign *foreignError
				err := ours.look(at("http://ours"), true)
				if !errors.As(err, &foreign) || !strings.Contains(err.Error(), "give the replica, or the machine, another name") || strings.Contains(err.Error(), "\x1b") {
					t.Fatalf("%v", err)
				}
				if err := errors.Join(ours.look(nil, false), ours.Remove()); err != nil || read(t, theirs).URL != "http://theirs" {
					t.Fatalf("%v", err)
				}
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Second)
		if err := ours.look(at("http://ours"), true); err != nil || read(t, theirs).URL != "http://ours" {
			t.Fatalf("%v", err)
		}
	})
}

// A file at the name of the copy that has no lease is somebody's.
func TestWithoutLease(t *testing.T) {
	for _, what := range []any{map[string]string{"url": "http://theirs"}, "notes of somebody"} {
		c := copyIn(t, t.TempDir(), t.TempDir())
		put(t, c, what)
		before, _ := os.ReadFile(c.Path())
		k := keeper{Copy: c}
		if err := k.look(at("http://ours"), true); err == nil || !strings.Contains(err.Error(), "has no lease") {
			t.Errorf("%v", err)
		}
		if after, err := os.ReadFile(c.Path()); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%q became %q, %v", before, after, err)
		}
	}
}

// Of two that have the same name and begin at once, one has it, and the other is told.
func TestSameNameAtOnce(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		both := [2]keeper{{Copy: copyIn(t, dir, t.TempDir())}, {Copy: copyIn(t, dir, t.TempDir())}}
		var errs [2]error
		var wg sync.WaitGroup
		for i := range both {
			owner, err := state.MakeID(both[i].State)
			if err != nil {
				t.Fatal(err)
			}
			both[i].owner = owner
			wg.Go(func() { errs[i] = both[i].write(at("x")) })
		}
		wg.Wait()
		var foreign *foreignError
		if (errs[0] == nil) == (errs[1] == nil) || !errors.As(errors.Join(errs[:]...), &foreign) {
			t.Fatalf("%v", errs)
		}
	}
}

func put(t *testing.T, c Copy, what any) {
	t.Helper()
	data, err := json.Marshal(what)
	if err == nil {
		err = os.WriteFile(c.Path(), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
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
	if err := errors.Join((&keeper{Copy: gone, owner: owner}).write(at("x")),
		(&keeper{Copy: foreign, owner: "another"}).write(at("x")), (&keeper{Copy: held, owner: owner}).write(at("x"))); err != nil {
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
