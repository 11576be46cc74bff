// Package pulse tells whether a loop goes round: it owns how long one may be away before it counts as stuck.
//
// The loop of a fleet beats, and whoever asks whether it is alive looks. It ends nothing and knows no reason.
package pulse

import (
	"fmt"
	"sync/atomic"
	"time"
)

// rounds is for how many periods the loop may be away. A round of a fleet's is an lstat for each replica.
const rounds = 10

// Pulse is when a loop came round last. It is for concurrent use, after the first Beat.
type Pulse struct{ last atomic.Pointer[time.Time] }

// Beat says that the loop comes round now.
func (p *Pulse) Beat() { p.last.Store(new(time.Now())) }

// Last is the time of the last Beat.
func (p *Pulse) Last() time.Time { return *p.last.Load() }

// Err is nil while a loop goes round that does so once in a period. No change of the clock counts.
func (p *Pulse) Err(period time.Duration) error {
	away := time.Since(p.Last())
	if away <= rounds*period {
		return nil
	}
	return fmt.Errorf("the manager's loop has not come round for %s: a replica or the disk of the state directory holds it up",
		away.Round(time.Second))
}
