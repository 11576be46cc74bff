package probe

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/llama-orch/engine-provisioner/internal/life"
)

// Slots is how many requests the engine says that it computes at once, or else what its flags say; 0 where nobody tells. It is
// worth no failure.
func (p *Prober) Slots(ctx context.Context, at Field, flags int) int {
	if at != (Field{}) {
		if n, err := p.Number(ctx, at); err == nil && n > 0 {
			return n
		}
	}
	return flags
}

// Requests counts the requests in the engine: none in one that sleeps, which is not to be woken by the question.
func (p *Prober) Requests(ctx context.Context, asleep Field, gauges Series) (int, error) {
	if p.Asleep(ctx, asleep) {
		return 0, nil
	}
	page, err := p.MetricsPage(ctx, gauges.Path)
	if err != nil {
		return 0, err
	}
	return RequestsOn(page, gauges)
}

// Asleep reports whether the engine says that it sleeps.
func (p *Prober) Asleep(ctx context.Context, f Field) bool {
	if f == (Field{}) {
		return false
	}
	a, err := p.Get(ctx, f.Path, maxJSONBody)
	var doc any
	return err == nil && json.Unmarshal(a.Body, &doc) == nil && LookUp(doc, f.Key) == true
}

// Account reads what an engine says of its work. Gauges or counters that are not there are told as not counted.
func (p *Prober) Account(ctx context.Context, sleeps Field, gauges, counters *Series) (work *life.Work, asleep bool, err error) {
	if p.Asleep(ctx, sleeps) {
		return nil, true, nil
	}
	work = &life.Work{Requests: -1, Tokens: -1}
	pages := map[string][]byte{}
	read := func(path string) ([]byte, error) {
		if page, known := pages[path]; known {
			return page, nil
		}
		page, err := p.MetricsPage(ctx, path)
		pages[path] = page
		return page, err
	}
	if g := gauges; g != nil {
		page, err := read(g.Path)
		if err != nil {
			return nil, false, err
		}
		if n, err := RequestsOn(page, *g); err == nil {
			work.Requests = n
		}
	}
	if c := counters; c != nil {
		page, err := read(c.Path)
		if err != nil {
			return nil, false, err
		}
		work.Tokens = WorkOn(page, *c)
	}
	return work, false, nil
}

// Answered is what a page that should say 200 amounts to, and what it said otherwise.
func Answered(a Answer, err error) (life.Answer, string) {
	switch {
	case Unasked(err):
		return life.Unasked, err.Error()
	case errors.Is(err, ErrNoAnswer), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return life.Silence, err.Error()
	case err != nil && (a.Status == 0 || BrokeOff(err)):
		return life.Refused, err.Error()
	case err != nil:
		return life.Mistaken, err.Error()
	case a.Status == http.StatusTooManyRequests:
		return life.Silence, a.String()
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden: // it knows another key than ours, and lives
		return life.Fine, ""
	case a.Status != http.StatusOK:
		return life.Mistaken, a.String()
	}
	return life.Fine, ""
}
