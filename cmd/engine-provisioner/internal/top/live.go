package top

import (
	"context"
	"errors"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/usage"
)

// Live is a source of a state directory. look finds its replicas; opts are for what is done without a manager.
func Live(stateDir string, look func() ([]provisioner.Status, error), opts ...provisioner.Option) (Source, error) {
	meter, err := usage.NewMeter(stateDir)
	if err != nil {
		return Source{}, err
	}
	return Source{
		Look: func(ctx context.Context) ([]provisioner.Status, error) {
			found, err := look()
			if err != nil {
				return found, err
			}
			return found, fleet.Measure(ctx, meter, found)
		},
		Log: tail.Lines,
		Events: func(ctx context.Context, each func(provisioner.Event)) {
			for e, err := range fleet.ReadEvents(ctx, stateDir, true) {
				if err == nil {
					each(e)
				}
			}
		},
		Do: func(ctx context.Context, what Action, about provisioner.Status, reason string) error {
			return act(ctx, stateDir, what, about, reason, opts)
		},
	}, nil
}

// act does what a key asks for. What this program does itself is not left half done when ctx ends.
func act(ctx context.Context, stateDir string, what Action, about provisioner.Status, reason string, opts []provisioner.Option) error {
	var answers []fleet.Answer
	var err error
	switch id := about.ID(); what {
	case Stop:
		if about.Manager > 0 {
			answers, err = fleet.RequestStop(ctx, stateDir, id)
		}
		if about.Manager == 0 || errors.Is(err, fleet.ErrNotManaged) {
			err = stop(context.WithoutCancel(ctx), stateDir, id, opts)
		}
	case Start:
		answers, err = fleet.RequestStart(ctx, stateDir, id)
	case Restart:
		answers, err = fleet.RequestRestart(ctx, stateDir, id)
	case Reset:
		answers, err = fleet.RequestReset(ctx, stateDir, id)
	case Hold:
		var h hold.Hold
		if h, err = hold.New(reason, 0); err != nil {
			return err
		}
		if about.Manager == 0 {
			ctx = context.WithoutCancel(ctx)
		}
		answers, err = fleet.RequestHold(ctx, stateDir, h, []provisioner.ReplicaID{id}, opts...)
	case Unhold:
		answers, err = fleet.RequestUnhold(ctx, stateDir, id)
	}
	for _, a := range answers {
		if a.Error != "" {
			err = errors.Join(err, errors.New(a.Error))
		}
	}
	return err
}

// stop stops an engine that no manager looks after.
func stop(ctx context.Context, stateDir string, id provisioner.ReplicaID, opts []provisioner.Option) error {
	p, err := provisioner.Attach(stateDir, id, opts...)
	if err != nil {
		return err
	}
	if err := p.Stop(ctx); !errors.Is(err, provisioner.ErrKilled) {
		return err
	}
	return nil // it is gone, which was asked for
}
