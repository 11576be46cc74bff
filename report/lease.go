package report

import "time"

// Lease is what makes a handoff one of another node: a copy in a folder that nodes share, which holds as long as the manager of its
// replica renews it. So the copy of a node that died, or was cut off, ends by itself.
type Lease struct {
	Node      string    `json:"node"`       // the name of the machine that the replica runs on
	Owner     string    `json:"owner"`      // the id of its state directory
	RenewedAt time.Time `json:"renewed_at"` // by the clock of that machine
	TTL       int       `json:"ttl"`        // seconds from RenewedAt on
}

// Holds reports whether the lease holds at a time. The clocks of both machines must agree to much less than TTL; provisioner.WatchHandoffs
// needs that only of a copy that it sees for the first time.
func (l Lease) Holds(at time.Time) bool { return at.Before(l.RenewedAt.Add(l.Term())) }

// Term is TTL as a duration.
func (l Lease) Term() time.Duration { return time.Duration(l.TTL) * time.Second }
