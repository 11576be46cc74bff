package fleet

import (
	"fmt"
	"sync/atomic"
	"time"
)

// stallRounds is for how many periods the loop may be away before it counts as stuck. A round is an lstat for each replica.
const stallRounds = 10

// Alive returns nil while the fleet's own loop goes round, which takes the requests of other programs, keeps the state
// directory, and looks at every replica on its way, once a second: no lock of a replica holds it up then, and no disk. From 10
// seconds without a round on, the error says so. During Shutdown, KillAll and Release, which have bounds of their own, the
// fleet is alive; after them the error is ErrStopped or ErrReleased. How the engines are, Status tells.
func (f *Fleet) Alive() error {
	why := f.over()
	switch {
	case closed(f.done):
		return fmt.Errorf("the fleet has ended: %w", why)
	case why != nil:
		return nil //nolint:nilerr // that its end is under way is no failure
	}
	return f.inbox.alive()
}

// pulse is when a loop came round last.
type pulse struct{ last atomic.Pointer[time.Time] }

func (p *pulse) beat() { p.last.Store(new(time.Now())) }

// alive reports whether the loop goes round. No change of the clock counts.
func (b *inbox) alive() error {
	away := time.Since(*b.pulse.last.Load())
	if away <= stallRounds*b.period {
		return nil
	}
	return fmt.Errorf("the manager's loop has not come round for %s: a replica or the disk of the state directory holds it up",
		away.Round(time.Second))
}
