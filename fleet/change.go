package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
	"github.com/llama-orch/engine-provisioner/fleet/internal/policy"
	"github.com/llama-orch/engine-provisioner/internal/turns"
)

// change is what Apply has to do about one replica.
type change struct {
	*replica
	cfg    provisioner.ProvisionConfig
	what   policy.Todo
	now    provisioner.Comparison
	result *Reloaded
}

func (c *change) end(result ReloadResult, err error) {
	if c.result.Result, c.result.Err = result, err; err != nil {
		c.result.Result = ReloadFailed
	}
}

// changeAll carries out changes: first what takes nothing from anybody, last what ends a ready engine.
func (f *Fleet) changeAll(ctx context.Context, changes []*change) {
	absent := map[*replica]bool{} // they have failed with settings that stay, which says nothing about the new ones of others
	var launches []*change
	for _, c := range changes {
		switch c.what {
		case policy.Update:
			c.end(ReloadUpdated, c.ask(ctx, order{kind: orderUpdate, cfg: c.cfg, now: c.now}))
		case policy.Relaunch:
			launches = append(launches, c)
		}
	}
	for _, c := range changes {
		if c.what != policy.Retry {
			continue
		}
		err := c.retry(ctx, c.cfg)
		c.end(ReloadRetried, err)
		absent[c.replica] = err != nil
	}
	ready := func(c *change) int {
		if c.isReady() {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(launches, func(a, b *change) int { return ready(a) - ready(b) })
	ports := make([]turns.Move[int], len(launches))
	for i, c := range launches {
		ports[i] = turns.Move[int]{From: c.port(), To: c.cfg.Port}
	}
	failed := map[string]bool{} // by pool
	for _, turn := range turns.Order(ports) {
		group := make([]*change, len(turn))
		skip := false
		for i, at := range turn {
			group[i] = launches[at]
			skip = skip || failed[group[i].cfg.PoolID]
		}
		switch {
		case skip:
		case len(group) == 1:
			group[0].end(ReloadDone, f.reload(ctx, group[0].replica, group[0].cfg, absent))
		default:
			f.swap(ctx, group, absent)
		}
		for _, c := range group {
			if skip {
				c.end(ReloadSkipped, nil)
			}
			failed[c.cfg.PoolID] = failed[c.cfg.PoolID] || c.result.Err != nil
		}
	}
}

// swap reloads replicas that take over each other's ports.
func (f *Fleet) swap(ctx context.Context, group []*change, absent map[*replica]bool) {
	done := make(chan []error, 1)
	go func() { done <- f.swapNow(ctx, group, absent) }()
	select {
	case errs := <-done:
		for i, c := range group {
			c.end(ReloadDone, errs[i])
		}
	case <-ctx.Done(): // it goes on
		for _, c := range group {
			c.end(ReloadDone, context.Cause(ctx))
		}
	}
}

func (f *Fleet) swapNow(ctx context.Context, group []*change, absent map[*replica]bool) []error {
	going := make([]*replica, len(group))
	before, after := make([]order, len(group)), make([]order, len(group))
	for i, c := range group {
		going[i], before[i], after[i] = c.replica, order{cfg: c.config()}, order{cfg: c.cfg}
	}
	errs := make([]error, len(group))
	for i, c := range group {
		after[i].next, errs[i] = c.rehearse(ctx, c.cfg)
	}
	if errors.Join(errs...) == nil {
		if err := f.awaitOthers(ctx, going, absent); err != nil {
			errs[0] = err
		}
	}
	if errors.Join(errs...) != nil {
		return outcome.OfSwap(namesOf(going), errs, "nothing was changed")
	}
	if errs = haltAndStart(ctx, going, after); errors.Join(errs...) == nil {
		return errs
	}
	if back := errors.Join(haltAndStart(ctx, going, before)...); back != nil {
		return outcome.OfSwap(namesOf(going), errs, "and the old settings do not work any more: "+back.Error())
	}
	return outcome.OfSwap(namesOf(going), errs, "the old settings are back")
}

// haltAndStart stops replicas, and then starts them with other settings and waits for them.
func haltAndStart(ctx context.Context, going []*replica, starts []order) []error {
	all := func(do func(i int, r *replica) error) []error {
		errs := make([]error, len(going))
		var work sync.WaitGroup
		for i, r := range going {
			work.Go(func() { errs[i] = do(i, r) })
		}
		work.Wait()
		return errs
	}
	if errs := all(func(_ int, r *replica) error { return r.insist(ctx, order{kind: orderHalt}) }); errors.Join(errs...) != nil {
		return errs
	}
	return all(func(i int, r *replica) error {
		o := starts[i]
		o.kind, o.firm = orderReload, true
		return r.ask(context.Background(), o)
	})
}

func namesOf(replicas []*replica) []string {
	names := make([]string, len(replicas))
	for i, r := range replicas {
		names[i] = r.name
	}
	return names
}
