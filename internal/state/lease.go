package state

import (
	"encoding/json"
	"time"

	"github.com/llama-orch/engine-provisioner/report"
)

// LeaseOf is the lease of a handoff, if it has one.
func LeaseOf(data []byte) (lease report.Lease, leased bool) {
	var h struct {
		Lease *report.Lease `json:"lease"`
	}
	if json.Unmarshal(data, &h) != nil || h.Lease == nil {
		return lease, false
	}
	return *h.Lease, true
}

// leases judge handoffs of other nodes. What is seen for the first time is judged by both clocks; from then on only that it is
// renewed counts, by this machine's clock alone.
type leases map[string]seenLease

type seenLease struct {
	renewedAt time.Time // as it was written
	at        time.Time // when that was seen, or what the clocks say of the first sight
}

// holds reports whether a handoff may be read as what it says. One without a lease always may.
func (l leases) holds(path string, data []byte, now time.Time) bool {
	lease, leased := LeaseOf(data)
	if !leased {
		delete(l, path)
		return true
	}
	seen, known := l[path]
	switch {
	case !known && lease.RenewedAt.Before(now):
		seen = seenLease{lease.RenewedAt, now.Add(lease.RenewedAt.Round(0).Sub(now.Round(0)))} // keeps the monotonic clock
	case !known || !seen.renewedAt.Equal(lease.RenewedAt):
		seen = seenLease{lease.RenewedAt, now}
	}
	l[path] = seen
	return now.Sub(seen.at) < lease.Term()
}

// unleased is a handoff without the lease, of which only the renewals differ.
func unleased(data []byte) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal(data, &all) != nil || all["lease"] == nil {
		return data
	}
	delete(all, "lease")
	rest, err := json.Marshal(all)
	if err != nil {
		return data
	}
	return rest
}
