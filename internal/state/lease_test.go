package state

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llama-orch/engine-provisioner/report"
)

func leased(t *testing.T, renewedAt time.Time, url string) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"url": url, "pool_id": "chat", "replica_id": "r0", "lease": report.Lease{Node: "far", Owner: "x", RenewedAt: renewedAt, TTL: 30},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A handoff of another node is there as long as it is renewed. A clock that is wrong over there matters at the first sight alone.
func TestLeases(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		ahead time.Duration // the other clock
		first bool          // what the first sight says
	}{"right": {0, true}, "a little behind": {-20 * time.Second, true}, "an hour behind": {-time.Hour, false}, "an hour ahead": {time.Hour, true}} {
		l, there := leases{}, now.Add(c.ahead)
		steps := []struct {
			after   time.Duration
			renewed time.Duration
			want    bool
		}{
			{0, 0, c.first},
			{10 * time.Second, 10 * time.Second, true},
			{39 * time.Second, 10 * time.Second, true}, // 29 s of silence
			{41 * time.Second, 10 * time.Second, false},
			{42 * time.Second, 42 * time.Second, true}, // it was only cut off
			{2 * time.Hour, 42 * time.Second, false},
		}
		for i, step := range steps {
			if got := l.holds("x", leased(t, there.Add(step.renewed), "u"), now.Add(step.after)); got != step.want {
				t.Errorf("%s, step %d: %t", name, i, got)
			}
		}
	}
	if l := (leases{}); !l.holds("x", []byte(`{"url": "u"}`), now) || !l.holds("x", []byte(`{`), now) {
		t.Error("a handoff without a lease does not hold")
	}
}

// A watcher tells of no renewal, and of a node that is silent as of one that has removed its handoff.
func TestWatchLeases(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "far.chat-r0.json")
		write := func(url string) {
			if err := os.WriteFile(path, leased(t, time.Now(), url), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w := &watch{dir: dir, seen: map[string][]byte{}, leases: leases{}} // by looks alone, as on a network's disk
		var told []Change
		look := func(after time.Duration) (now []Change) {
			time.Sleep(after)
			told = nil
			w.scan(func(c Change) bool { told = append(told, c); return true })
			return told
		}
		write("a")
		if got := look(0); len(got) != 1 || got[0].Removed {
			t.Fatalf("%+v", got)
		}
		write("a")
		if got := look(10 * time.Second); got != nil {
			t.Fatalf("a renewal: %+v", got)
		}
		write("b")
		if got := look(0); len(got) != 1 || got[0].Removed {
			t.Fatalf("a change: %+v", got)
		}
		if got := look(29 * time.Second); got != nil {
			t.Fatalf("%+v", got)
		}
		if got := look(2 * time.Second); len(got) != 1 || !got[0].Removed || got[0].Data == nil {
			t.Fatalf("a silent node: %+v", got)
		}
		if got := look(time.Minute); got != nil {
			t.Fatalf("%+v", got)
		}
		write("b")
		if got := look(0); len(got) != 1 || got[0].Removed {
			t.Fatalf("it is back: %+v", got)
		}
		// A folder that cannot be read, as of a network's disk in trouble, tells nothing: what is known stands for its lease.
		w.dir = filepath.Join(path, "none")
		if got := look(20 * time.Second); got != nil {
			t.Fatalf("an unreadable folder: %+v", got)
		}
		if got := look(20 * time.Second); len(got) != 1 || !got[0].Removed {
			t.Fatalf("an unreadable folder for longer than the lease: %+v", got)
		}
	})
}
