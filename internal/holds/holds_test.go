package holds_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/holds"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Whatever is placed, lifted and waited for: a replica is held exactly while its own hold or that of the node is there and not
// over, and its own is the one that is told.
func TestOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		files := []state.Files{state.In(dir, "pool-r0"), state.In(dir, "pool-r1")}
		now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		own, node := map[string]*hold.Hold{}, (*hold.Hold)(nil)
		ok := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		ok(errors.Join(holds.LiftAll(dir), holds.Lift(files[0]), holds.Lift(files[1])))
		one := func() hold.Hold {
			h := hold.Hold{Reason: rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "reason"), Since: now}
			if last := rapid.IntRange(0, 3).Draw(t, "hours"); last > 0 {
				h.Until = now.Add(time.Duration(last) * time.Hour)
			}
			return h
		}
		steps := map[string]func(){
			"place": func() {
				f, h := rapid.SampledFrom(files).Draw(t, "replica"), one()
				ok(holds.Place(f, h))
				own[f.Stem] = &h
			},
			"lift": func() {
				f := rapid.SampledFrom(files).Draw(t, "replica")
				ok(holds.Lift(f))
				delete(own, f.Stem)
			},
			"place all": func() { h := one(); ok(holds.PlaceAll(dir, h)); node = &h },
			"lift all":  func() { ok(holds.LiftAll(dir)); node = nil },
			"wait":      func() { now = now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute) },
		}
		// Not more: each writes to the disk.
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"place", "lift", "place all", "lift all", "wait"}), 1, 8).Draw(t, "steps") {
			steps[name]()
			for _, f := range files {
				want := own[f.Stem]
				if want != nil && want.Over(now) {
					want = nil
				}
				byNode := want == nil && node != nil && !node.Over(now)
				if byNode {
					want = node
				}
				got := holds.Of(f, now)
				if (got == nil) != (want == nil) || got != nil && (got.Reason != want.Reason || got.Node != byNode || !got.Until.Equal(want.Until)) {
					t.Fatalf("%s: held by %+v, want %+v", f.Stem, got, want)
				}
			}
		}
	})
}

// A file that cannot be read holds, and says so.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	f := state.In(t.TempDir(), "pool-r0")
	if err := f.Create(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.HoldPath(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := holds.Check(f, "pool/r0")
	if held, ok := errors.AsType[*hold.Error](err); !ok || !errors.Is(err, hold.ErrHeld) || !strings.Contains(held.Hold.Reason, "cannot be read") {
		t.Errorf("%v", err)
	}
}
