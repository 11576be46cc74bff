package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet/internal/mailbox"
	"github.com/llama-orch/engine-provisioner/fleet/internal/outcome"
	"github.com/llama-orch/engine-provisioner/fleet/internal/pulse"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/caught"
	"github.com/llama-orch/engine-provisioner/internal/wake"
	"github.com/llama-orch/engine-provisioner/report"
)

// requestPeriod is the time between the manager's looks for requests.
const requestPeriod = time.Second

// inbox takes the requests that other programs put to a fleet.
type inbox struct {
	fleet  *Fleet
	box    mailbox.Box
	reload func() ([]provisioner.ProvisionConfig, error) // nil: it cannot be asked for
	file   string                                        // what reload reads, "" when that is not known
	keeper keeper
	period time.Duration // between looks
	pulse  pulse.Pulse
	work   sync.WaitGroup
	leave  context.CancelFunc
}

func newInbox(f *Fleet, o Options) *inbox {
	return &inbox{fleet: f, box: mailbox.Open(f.state), reload: o.Configs, file: o.ConfigFile, keeper: keeper{fleet: f}, period: requestPeriod}
}

func (b *inbox) start() {
	ctx, leave := context.WithCancel(context.Background())
	b.leave = leave
	b.pulse.Beat()
	b.work.Go(func() { b.run(ctx) })
}

func (b *inbox) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(wake.Until(time.Now(), b.period))
		}
		for _, question := range b.box.Waiting() {
			b.work.Go(func() { b.take(question) })
		}
		b.keeper.look()
		b.pulse.Beat()
	}
}

// take answers one request.
func (b *inbox) take(question mailbox.Question) {
	data, ours, err := question.Take()
	if !ours {
		return
	}
	var r request
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	var all answers
	if err == nil {
		if panicked := caught.Do(b.fleet.log, "a request", func() { all.Answers, err = b.answer(r) }); panicked != nil {
			err = panicked
		}
	}
	if err != nil {
		all.Error = err.Error()
	}
	if data, err = json.Marshal(all); err == nil {
		err = question.Answer(data)
	}
	if err != nil {
		b.fleet.log.Warn("cannot answer a request", "error", err)
	}
}

// answer does what is asked for. It takes no context: when the fleet ends, so do its replicas, and who waits for
// them.
func (b *inbox) answer(r request) ([]Answer, error) {
	ctx := context.Background()
	switch {
	case r.Kind == requestReset:
		kind := orderStart // one that was stopped is started only by its name
		if len(r.Replicas) == 0 {
			kind = orderReset
		}
		return b.fleet.each(r.Replicas, ResultReset, func(r *replica) error { return r.ask(ctx, order{kind: kind}) })
	case r.Kind == requestStop:
		by := r.By
		return b.fleet.each(r.Replicas, ResultStopped, func(r *replica) error { return r.ask(ctx, order{kind: orderStop, by: by}) })
	case r.Kind == requestStart:
		if len(r.Replicas) == 0 { // also those that were stopped: who says "start" means them above all
			r.Replicas = b.fleet.names()
		}
		return b.fleet.each(r.Replicas, ResultReady, func(r *replica) error {
			if err := r.ask(ctx, order{kind: orderStart}); err != nil {
				return err
			}
			return r.waitReady(ctx)
		})
	case r.Kind == requestRestart:
		return b.fleet.each(r.Replicas, ResultRestarted, func(r *replica) error {
			return b.fleet.Restart(ctx, r.id, provisioner.StopOptions{})
		})
	case r.Kind == requestHold && r.Hold != nil:
		return b.fleet.place(ctx, r.Replicas, *r.Hold, provisioner.StopOptions{})
	case r.Kind == requestUnhold:
		return b.fleet.lift(ctx, r.Replicas)
	case r.Kind == requestReload && b.reload == nil:
		return nil, errors.New("this manager has no configuration to read again; it is a program that calls Reload itself")
	case r.Kind == requestReload && r.File != "" && b.file != "" && !access.SameFile(r.File, b.file):
		return nil, fmt.Errorf("nothing was reloaded: the manager reads %q, and not %q; change that file, or stop the manager and start one with the other", b.file, r.File)
	case r.Kind == requestReload:
		cfgs, err := b.reload()
		if err != nil {
			return nil, err
		}
		results, err := b.fleet.Apply(ctx, cfgs)
		var all []Answer
		for _, done := range results {
			all = append(all, Answer{Pool: done.Pool, Replica: done.Replica, Result: string(done.Result), Error: outcome.Text(done.Err)})
		}
		return all, err
	default:
		return nil, fmt.Errorf("this manager knows no request %q", r.Kind)
	}
}

// each does something to the named replicas, or to all of which nobody has said that they shall not run.
func (f *Fleet) each(names []string, result string, do func(r *replica) error) ([]Answer, error) {
	replicas := f.all()
	for _, name := range names {
		if !slices.ContainsFunc(replicas, func(r *replica) bool { return r.name == name }) {
			return nil, fmt.Errorf("%w: the manager looks after no replica %q", provisioner.ErrNotFound, name)
		}
	}
	var chosen []*replica
	for _, r := range replicas {
		if slices.Contains(names, r.name) || len(names) == 0 && r.history().Phase != report.PhaseStopped {
			chosen = append(chosen, r)
		}
	}
	all := make([]Answer, len(chosen))
	var work sync.WaitGroup
	for i, r := range chosen {
		work.Go(func() {
			cfg := r.config()
			all[i] = Answer{Pool: cfg.PoolID, Replica: cfg.ReplicaID, Result: result}
			if err := do(r); err != nil {
				all[i].Result, all[i].Error = ResultFailed, err.Error()
			}
		})
	}
	work.Wait()
	return all, nil
}
