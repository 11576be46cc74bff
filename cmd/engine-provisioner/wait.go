package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/table"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/report"
)

// errNotReady says that replicas that were asked about are not ready.
var errNotReady = errors.New("not ready")

func (c *cli) waitCommand() *cobra.Command {
	limit := time.Duration(-1)
	cmd := &cobra.Command{
		Use:   "wait [POOL[/REPLICA]]...",
		Short: "Wait until replicas are ready",
		Long: `Wait until the replicas that are named are ready, which another command has started or is about to start: those of the
file where there is --config, else all of the state directory. It ends with status 4 when --timeout is over, and with
status 1 as soon as one of them has failed and nobody is going to start it again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if limit >= 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			return c.wait(ctx)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().Var((*durationValue)(&limit), "timeout", "how long to wait, such as 5m (default: for ever)")
	return cmd
}

// wait looks again and again: what is waited for may not have begun, and so there may be nothing yet that could tell.
func (c *cli) wait(ctx context.Context) error {
	const first, longest = 10 * time.Millisecond, 250 * time.Millisecond
	for pause := first; ; pause = min(2*pause, longest) {
		found, err := c.asked()
		if err != nil {
			return err
		}
		late := notReady(found)
		if pause == first && slices.ContainsFunc(late, func(s provisioner.Status) bool { return s.State == provisioner.StateNew }) {
			c.say("waiting; " + standing(late))
		}
		if len(found) > 0 && len(late) == 0 {
			return nil
		}
		if over := slices.IndexFunc(late, hopeless); over >= 0 {
			return fmt.Errorf("%w, and nobody is going to start it again: %s", errHopeless, standing(late[over:over+1]))
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return c.lateError(found)
			}
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

var errHopeless = errors.New("a replica has failed")

// check is for health checks: the error says who is not ready.
func (c *cli) check(found []provisioner.Status) error {
	if len(found) > 0 && len(notReady(found)) == 0 {
		return nil
	}
	return c.lateError(found)
}

func (c *cli) lateError(found []provisioner.Status) error {
	if len(found) == 0 {
		return fmt.Errorf("%w: no replica has been started", errNotReady)
	}
	return fmt.Errorf("%w: %s", errNotReady, standing(notReady(found)))
}

// asked are the replicas that the file, flags and arguments name, also those that have never been started.
func (c *cli) asked() ([]provisioner.Status, error) {
	c.findState()
	if c.configFile == "" || c.onlyState {
		stateDir, err := c.state()
		if err != nil {
			return nil, err
		}
		all, err := fleet.Statuses(stateDir, withContainers()...)
		known := namesOf(all)
		for _, name := range c.names { // which may be started yet
			if pool, replica, whole := strings.Cut(name, "/"); whole && !slices.Contains(known, name) {
				all = append(all, provisioner.Status{Pool: pool, Replica: replica, State: provisioner.StateNew})
			}
		}
		return slices.DeleteFunc(all, func(s provisioner.Status) bool { return !c.chosen(s.Pool, s.Replica) }), err
	}
	configs, err := c.loadRun()
	if err != nil {
		return nil, err
	}
	all, err := fleet.Statuses(configs[0].StateDir, withContainers()...)
	if err != nil {
		return nil, err
	}
	known := namesOf(all)
	var found []provisioner.Status
	for _, cfg := range configs {
		s := provisioner.Status{Pool: cfg.PoolID, Replica: cfg.ReplicaID, State: provisioner.StateNew}
		if at := slices.Index(known, cfg.Name()); at >= 0 {
			s = all[at]
		}
		found = append(found, s)
	}
	return found, nil
}

func notReady(all []provisioner.Status) (late []provisioner.Status) {
	for _, s := range all {
		if s.State != provisioner.StateReady {
			late = append(late, s)
		}
	}
	return late
}

// hopeless tells whether a replica has failed and is left so.
func hopeless(s provisioner.Status) bool {
	if s.State != provisioner.StateFailed {
		return false
	}
	return s.Restarts == nil || s.Restarts.Phase == report.PhaseFailed || s.Restarts.Phase == report.PhaseStopped
}

// standing says where replicas stand, in one line.
func standing(all []provisioner.Status) string {
	var words []string
	for _, s := range all {
		state := string(s.State)
		if s.State == provisioner.StateNew {
			state = "not started"
		}
		words = append(words, s.Pool+"/"+s.Replica+" is "+state+table.Outlook(s, time.Now()))
	}
	return strings.Join(words, ", ")
}
