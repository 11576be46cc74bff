package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// Reloaded is what [Fleet.Apply] did about a replica.
type Reloaded struct {
	Pool    string       `json:"pool"`
	Replica string       `json:"replica"`
	Result  ReloadResult `json:"result"`
	Err     error        `json:"-"` // with ReloadFailed
}

// ID returns the replica's name.
func (r Reloaded) ID() provisioner.ReplicaID {
	return provisioner.ReplicaID{Pool: r.Pool, Replica: r.Replica}
}

// MarshalJSON adds the error's text, and its cause, advice and last lines where it has them.
func (r Reloaded) MarshalJSON() ([]byte, error) {
	type plain Reloaded
	failure, _ := errors.AsType[*provisioner.Failure](r.Err)
	return json.Marshal(struct {
		plain
		Error   string               `json:"error,omitempty"`
		Failure *provisioner.Failure `json:"failure,omitempty"`
	}{plain(r), outcome.Text(r.Err), failure})
}

// ReloadResult is the outcome of Apply for one replica.
type ReloadResult string

// The outcomes.
const (
	ReloadUnchanged ReloadResult = "unchanged" // it has these settings already
	ReloadUpdated   ReloadResult = "updated"   // its engine runs on under the new settings, which make no other launch
	ReloadRetried   ReloadResult = "retried"   // it had failed; tried again, it is ready
	ReloadDone      ReloadResult = "reloaded"  // another engine is ready with the new settings
	ReloadStarted   ReloadResult = "started"   // it is new, and ready
	ReloadRemoved   ReloadResult = "removed"   // it is not among the configurations: it was drained and stopped
	ReloadFailed    ReloadResult = "failed"    // see Err
	ReloadSkipped   ReloadResult = "skipped"   // another replica of the pool failed before
	ReloadHeld      ReloadResult = "held"      // somebody holds it: it has the new settings, and is started with them when that is over
	ReloadStopped   ReloadResult = "stopped"   // it was stopped by a command, and stays so; Reset starts it with the new settings
)

// Apply makes cfgs the configurations of all replicas. First those are drained and stopped that are not among cfgs any
// more. Engines whose launch would be the same run on under their new settings. Then those that have failed are tried
// again, and those whose settings or whose executable have changed since their launch are reloaded, one after the other,
// those that are not ready first; after a failure the rest of the pool is left as it is. Replicas that take over each
// other's ports are stopped together and then started together; when one fails, all of them come back as they were. Last,
// those that are new are started, or adopted if they run, and awaited; one that does not become ready is kept, by the
// rules of its [settings.Restart].
//
// It tells of every replica, in the order of cfgs and then of those that were removed. The error is a *ConfigError or
// another reason why nothing was changed. When ctx ends, what was begun goes on without the caller, and no more is begun;
// then the error is ctx's cause.
func (f *Fleet) Apply(ctx context.Context, cfgs []provisioner.ProvisionConfig) ([]Reloaded, error) {
	if len(cfgs) == 0 {
		return nil, &provisioner.ConfigError{Problems: []provisioner.Problem{{Key: "pools", Message: "no replica is configured; give at least one"}}}
	}
	cfgs, err := f.checked(cfgs)
	if err != nil {
		return nil, err
	}
	done, err := f.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.over(); err != nil {
		done()
		return nil, fmt.Errorf("cannot apply the configuration: the fleet: %w", err)
	}
	var results []Reloaded
	applied := make(chan error, 1)
	go func() {
		defer done()
		applied <- caught.Do(f.log, "a change", func() { results = f.apply(ctx, cfgs) })
	}()
	select {
	case err := <-applied:
		return results, err
	case <-ctx.Done():
		return nil, outcome.GoesOn(ctx, "the change")
	}
}

// apply is Apply for who has begun a change. When ctx ends, no more is begun.
func (f *Fleet) apply(ctx context.Context, cfgs []provisioner.ProvisionConfig) []Reloaded {
	results := make([]Reloaded, len(cfgs))
	var changed []*change
	var added []int // indexes of cfgs
	for i, cfg := range cfgs {
		results[i] = Reloaded{Pool: cfg.PoolID, Replica: cfg.ReplicaID, Result: ReloadUnchanged}
		r, err := f.find(cfg.ID())
		if err != nil {
			added = append(added, i)
			continue
		}
		if r.history().Phase == report.PhaseStopped {
			if results[i].Result = ReloadStopped; r.hold() != nil {
				results[i].Result = ReloadHeld
			}
			r.update(func() { r.cfg = cfg })
			continue
		}
		if what, now := r.weigh(ctx, cfg); what != policy.Nothing {
			changed = append(changed, &change{replica: r, cfg: cfg, what: what, now: now, result: &results[i]})
		}
	}
	removed := f.remove(cfgs)
	f.changeAll(ctx, changed)
	f.addAll(ctx, cfgs, added, results)
	return append(results, removed...)
}

// checked gives configurations their defaults, and this fleet's state directory where they have none.
func (f *Fleet) checked(cfgs []provisioner.ProvisionConfig) ([]provisioner.ProvisionConfig, error) {
	cfgs = slices.Clone(cfgs) // the caller's stay as they are
	for i, cfg := range cfgs {
		if cfg.StateDir == "" {
			cfgs[i].StateDir = f.state
			continue
		}
		dir, err := state.Dir(cfg.StateDir)
		if err != nil {
			return nil, err
		}
		if dir != f.state {
			message := fmt.Sprintf("the state directory of %s is %q, and that of the fleet %q; there is a fleet for each", cfg.Name(), dir, f.state)
			return nil, &provisioner.ConfigError{Problems: []provisioner.Problem{{Key: "StateDir", Message: message}}}
		}
	}
	if err := provisioner.ValidateReplicas(cfgs, f.opts...); err != nil {
		return nil, err
	}
	for i, cfg := range cfgs {
		cfgs[i] = cfg.WithDefaults()
	}
	return cfgs, nil
}

// begin waits until no other change is under way. What it returns ends the change.
func (f *Fleet) begin(ctx context.Context) (done func(), err error) {
	select {
	case f.changing <- struct{}{}:
		return func() { <-f.changing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// addAll starts the new replicas, if there are any, puts all in the order of cfgs, and waits for the new ones.
func (f *Fleet) addAll(ctx context.Context, cfgs []provisioner.ProvisionConfig, added []int, results []Reloaded) {
	var fresh []provisioner.ProvisionConfig
	var ids []provisioner.ReplicaID
	for _, i := range added {
		fresh, ids = append(fresh, cfgs[i]), append(ids, cfgs[i].ID())
	}
	var found []provisioner.Recovered
	var err error
	if len(ids) > 0 {
		found, err = f.manager.Recover(ctx, ids, f.opts...) // of an earlier manager, or started by hand
	}
	var replicas []*replica
	if err == nil {
		replicas = f.takeOn(ctx, fresh, found)
		err = f.launch(replicas, cfgs)
	}
	var all sync.WaitGroup
	for n, i := range added {
		all.Go(func() {
			err := err
			if err == nil {
				err = replicas[n].waitReady(ctx)
			}
			switch results[i].Result = ReloadStarted; {
			case err != nil:
				results[i].Result, results[i].Err = ReloadFailed, err
			case replicas[n].hold() != nil:
				results[i].Result = ReloadHeld
			}
		})
	}
	all.Wait()
	for n, i := range added { // one that ran already may run with other settings
		if results[i].Result == ReloadStarted && replicas[n].isOutdated() {
			if err := f.reload(ctx, replicas[n], cfgs[i], nil); err != nil {
				results[i].Result, results[i].Err = ReloadFailed, err
			}
		}
	}
}
