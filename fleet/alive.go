package fleet

import "fmt"

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
	return f.inbox.pulse.Err(f.inbox.period)
}
