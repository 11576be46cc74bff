package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/usage"
)

const (
	// measureEvery is the time between two measurements while somebody looks: 180 of them are what is kept.
	measureEvery = 5 * time.Second
	// measuredFor is how long measurements are kept, and for how long it is measured after the last look.
	measuredFor = 15 * time.Minute
)

// Measured is what /usage answers: what the replicas took and did of late, as far as somebody has looked.
type Measured struct {
	// Samples are the measurements after the time that was asked for, oldest first, at most those of 15 minutes.
	Samples []Sample `json:"samples"`
}

// Sample is one measurement of all replicas.
type Sample struct {
	// Time is when it was.
	Time time.Time `json:"time"`
	// Replicas are those that ran.
	Replicas []ReplicaUsage `json:"replicas"`
}

// ReplicaUsage is what one replica took and did.
type ReplicaUsage struct {
	provisioner.ReplicaID
	Usage *usage.Usage `json:"usage"`
}

// recorder measures the replicas while somebody looks. All who look share what is measured, and who comes later sees what was.
type recorder struct {
	status  func() []provisioner.Status
	measure func(context.Context, []provisioner.Status) error
	ended   <-chan struct{} // closed with the fleet
	every   time.Duration
	keep    time.Duration

	mu      sync.Mutex
	running bool
	asked   time.Time // when somebody looked last
	samples []Sample
	last    []provisioner.Status // of the last measurement
}

func newRecorder(f *fleet.Fleet) *recorder {
	meter, err := usage.NewMeter(f.StateDir())
	return &recorder{
		status: f.Status, ended: f.Done(), every: measureEvery, keep: measuredFor,
		measure: func(ctx context.Context, all []provisioner.Status) error {
			if err != nil {
				return err
			}
			return fleet.Measure(ctx, meter, all)
		},
	}
}

// after returns the measurements after a time, and has more made for whoever looks again.
func (r *recorder) after(t time.Time) []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Now()
	if !r.running && !r.isOver() {
		r.running = true
		go r.run()
	}
	i := slices.IndexFunc(r.samples, func(s Sample) bool { return s.Time.After(t) })
	if i < 0 {
		return []Sample{}
	}
	return slices.Clone(r.samples[i:])
}

// run measures until nobody has looked for long, or the fleet has ended.
func (r *recorder) run() {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for r.goesOn() {
		r.take()
		select {
		case <-tick.C:
		case <-r.ended:
		}
	}
}

// goesOn reports whether somebody needs more measurements. Else those that there are are forgotten.
func (r *recorder) goesOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isOver() || time.Since(r.asked) > r.keep {
		r.running, r.samples, r.last = false, nil, nil
	}
	return r.running
}

func (r *recorder) isOver() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// take makes one measurement. What cannot be measured is not in it.
func (r *recorder) take() {
	ctx, cancel := context.WithTimeout(context.Background(), r.every)
	defer cancel()
	all := r.status()
	_ = r.measure(ctx, all)
	now := Sample{Time: time.Now().UTC(), Replicas: []ReplicaUsage{}}
	for _, s := range all {
		if s.Usage != nil {
			now.Replicas = append(now.Replicas, ReplicaUsage{s.ID(), s.Usage})
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = all
	r.samples = append(slices.DeleteFunc(r.samples, func(s Sample) bool { return now.Time.Sub(s.Time) > r.keep }), now)
}

// add gives statuses what was measured of late while somebody looks, and measures them now else.
func (r *recorder) add(ctx context.Context, all []provisioner.Status) {
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if last == nil {
		_ = r.measure(ctx, all) // what cannot be measured is not told
		return
	}
	for i, s := range all {
		at := slices.IndexFunc(last, func(was provisioner.Status) bool { return was.ID() == s.ID() && was.LaunchID == s.LaunchID })
		if at < 0 || s.State.Final() {
			continue
		}
		all[i].Usage = last[at].Usage
		if s.State == provisioner.StateStarting && s.Progress == nil {
			all[i].Progress = last[at].Progress
		}
	}
}

func (s *face) usage(w http.ResponseWriter, r *http.Request) {
	var after time.Time
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = time.Parse(time.RFC3339, text); err != nil {
			http.Error(w, fmt.Sprintf("cannot tell what was measured after %q: write a time such as %s", text, time.RFC3339), http.StatusBadRequest)
			return
		}
	}
	answerJSON(w, Measured{Samples: s.recorder.after(after)})
}
