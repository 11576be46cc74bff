package provisioner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Several programs write events at once, through many changes of the file, and none is lost or torn.
func TestEventsOfSeveralWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const writers, each = 4, 6
	long := strings.Repeat("x", state.MaxEvents/(writers*each)+1) // more than one file holds, less than two
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				e := Event{Pool: "p", Replica: "r", Kind: EventState, State: StateStopped, LaunchID: fmt.Sprintf("%d-%d", w, i), Message: long}
				if err := addEnd(dir, e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	seen := map[string]int{}
	for e, err := range state.ReadEvents[Event](context.Background(), dir, false) {
		if err != nil {
			t.Fatal(err)
		}
		seen[e.LaunchID]++
	}
	if len(seen) != writers*each {
		t.Errorf("%d of %d events", len(seen), writers*each)
	}
	if _, err := os.Stat(filepath.Join(dir, state.OldEventsName)); err != nil {
		t.Error(err)
	}
	if err := addEnd(dir, Event{LaunchID: "0-1", Kind: EventState, State: StateStopped}); err != nil || seen["0-1"] != 1 {
		t.Errorf("told %d times (%v)", seen["0-1"], err)
	}
}
