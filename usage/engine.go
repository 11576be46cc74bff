package usage

import (
	"context"
	"errors"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/exposition"
	"github.com/llama-orch/engine-provisioner/internal/probe"
)

// question adds what the engine says of its work. One that sleeps is not woken, and not kept awake.
func (l *launch) question(ctx context.Context, u *Usage) {
	spec := l.rec.Launch.Spec
	if spec.Gauges == nil && spec.Generated == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if u.Asleep = l.ask.Asleep(ctx, probe.Field(spec.Asleep)); u.Asleep || spec.MetricsWake {
		return
	}
	pages := map[string]map[string]float64{}
	read := func(path string) map[string]float64 {
		sums, asked := pages[path]
		if !asked {
			if page, err := l.ask.MetricsPage(ctx, path); err == nil {
				sums, _ = exposition.Sums(page) // what is no metrics page tells nothing
			}
			pages[path] = sums
		}
		return sums
	}
	if g := spec.Gauges; g != nil {
		u.count(read(g.Path), *g)
	}
	g := spec.Generated
	if g == nil {
		return
	}
	done, known := total(read(g.Path), g.Names)
	if !known {
		return
	}
	if !u.Idle() { // else there are none that are not yet counted
		done += float64(l.inSlots(ctx, g.Slots))
	}
	u.Tokens = new(int64(done))
}

// inSlots are the tokens of requests in flight.
func (l *launch) inSlots(ctx context.Context, s *engine.Slots) int64 {
	if s == nil || l.noSlots {
		return 0
	}
	n, err := l.ask.SumWhere(ctx, s.Path, s.Busy, s.Tokens)
	l.noSlots = errors.Is(err, probe.ErrNotServed)
	return int64(n)
}

// count adds the requests by what a metrics page says.
func (u *Usage) count(page map[string]float64, g engine.Gauges) {
	sum, known := 0, len(g.Names) > 0
	for _, name := range g.Names {
		n, there := total(page, []string{name})
		known = known && there
		sum += int(n)
	}
	if !known {
		return
	}
	if len(g.Waiting) > 0 {
		n, _ := total(page, g.Waiting)
		u.Waiting = new(int(n))
		sum -= int(n)
	}
	u.Running = new(max(0, sum))
}

// most is more than an engine can have done; what claims more is no number of anything.
const most = 1 << 53

// total is the sum of those of the series that are on the page.
func total(page map[string]float64, names []string) (sum float64, known bool) {
	for _, name := range names {
		n, there := page[name]
		sum, known = sum+n, known || there
	}
	return sum, known && sum >= 0 && sum < most // which NaN is not
}
