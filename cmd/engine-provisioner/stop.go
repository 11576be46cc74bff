package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/values"
	"github.com/llama-orch/engine-provisioner/report"
)

func (c *cli) stopCommand() *cobra.Command {
	var all, noDrain bool
	grace, drain := time.Duration(-1), time.Duration(-1)
	cmd := &cobra.Command{
		Use:   "stop [POOL[/REPLICA]... | --config FILE | --all]",
		Short: "Stop running replicas",
		Long: `Stop running replicas, whoever started them, and return when their processes are gone and their ports are free.
Ready replicas are drained first: their drain hooks run, and running requests are finished, as the configuration says. Of
others, running requests are finished. A replica that a manager was about to start again stays stopped. It is no error if a
replica does not run, but if none has ever run there. Of a file that is wrong, the replicas are stopped if it still says which and where they are.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(c.pools)+len(c.names) == 0 && !all && c.configFile == "" && (c.stateDir != "" || !c.findFile()) {
				return &usageError{err: errors.New("no replicas are chosen; name them as POOL or POOL/REPLICA, or give --config or --all")}
			}
			switch {
			case noDrain && drain > 0:
				return &usageError{err: errors.New("--no-drain and --drain-timeout contradict each other; give one of them")}
			case noDrain:
				drain = 0
			}
			return c.stopReplicas(cmd.Context(), limits(grace, drain))
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all replicas of the state directory")
	cmd.Flags().BoolVar(&noDrain, "no-drain", false, "run no drain hooks, and do not wait for running requests")
	cmd.Flags().Var((*durationValue)(&drain), "drain-timeout",
		"limit of the drain instead of the replica's own, such as 2m; 0 means --no-drain")
	cmd.Flags().Var((*durationValue)(&grace), "grace",
		"time between SIGTERM and SIGKILL instead of the replica's own, such as 30s; 0 kills at once, without drain")
	return cmd
}

// durationValue is a duration that is not negative, unless it is unset.
type durationValue time.Duration

func (g *durationValue) Type() string { return "duration" }

func (g *durationValue) String() string {
	if *g < 0 {
		return ""
	}
	return time.Duration(*g).String()
}

func (g *durationValue) Set(text string) error {
	d, err := values.ParseDuration(text)
	if err != nil {
		return err
	}
	*g = durationValue(d)
	return nil
}

// limits are those of the command line. Without a grace there is no drain either.
func limits(grace, drain time.Duration) provisioner.StopOptions {
	var o provisioner.StopOptions
	if grace >= 0 {
		o.Grace = &grace
	}
	if grace == 0 {
		drain = 0
	}
	if drain >= 0 {
		o.DrainTimeout = &drain
	}
	return o
}

func (c *cli) stopReplicas(ctx context.Context, limits provisioner.StopOptions) error {
	found, stateDir, err := c.recorded()
	var errs []error
	_, wrong := errors.AsType[*provisioner.ConfigError](err)
	if wrong {
		found, stateDir = c.recordedAnyway()
	}
	switch {
	case wrong && len(found) > 0:
		c.sayAnyway(found)
	case err != nil:
		errs = append(errs, err)
	}
	if wrong && len(found) == 0 {
		c.say("note: nothing was stopped; a stop needs no file: give --state-dir, which is the file's \"state_dir\" or .runtime beside it, and --pool or --all")
	}
	if len(found) == 0 && err == nil {
		return c.nothing(stateDir)
	}
	unwatch := context.AfterFunc(ctx, func() { c.say("still stopping; interrupt again to kill at once") })
	defer unwatch()
	stopped := make([]error, len(found))
	var wait sync.WaitGroup
	for i, s := range found {
		wait.Go(func() { stopped[i] = c.stopReplica(stateDir, s, limits) })
	}
	wait.Wait()
	for i, err := range stopped {
		switch {
		case err == nil:
			c.stopTold(found[i], "stopped", "")
		case errors.Is(err, provisioner.ErrDrainAborted) && !errors.Is(err, provisioner.ErrUnkillable):
			c.stopTold(found[i], "stopped", "")
			errs = append(errs, err)
		case errors.Is(err, provisioner.ErrKilled):
			c.stopTold(found[i], "stopped", strings.TrimPrefix(err.Error(), found[i].Pool+"/"+found[i].Replica+": "))
		case errors.Is(err, provisioner.ErrNotRunning), errors.Is(err, provisioner.ErrNotFound):
			c.stopTold(found[i], "not running", "")
		default:
			errs = append(errs, err)
		}
	}
	return c.reportAll(errs)
}

func (c *cli) stopReplica(stateDir string, s provisioner.Status, limits provisioner.StopOptions) error {
	tell := provisioner.WithEventFunc(func(e provisioner.Event) {
		if e.Kind == provisioner.EventNote {
			c.say(s.Pool + "/" + s.Replica + ": note: " + e.Message)
		}
	})
	p, err := provisioner.Attach(stateDir, s.ID(), withContainers(tell)...)
	if err != nil {
		return stopWaiting(c.signals.hurried, stateDir, s, err)
	}
	stop := func(ctx context.Context) error { return p.StopWith(ctx, limits) }
	if err := c.signals.heed(stop, p.Kill); err != nil {
		return err
	}
	return stopCrashed(c.signals.hurried, stateDir, s)
}

// stopCrashed comes after the stop of a running replica. An engine that died just before that has crashed, for the manager that
// looks after it, which would start another one.
func stopCrashed(ctx context.Context, stateDir string, s provisioner.Status) error {
	all, _ := fleet.Statuses(stateDir, withContainers()...) // what cannot be read of others does not matter
	for _, now := range all {
		if now.Pool != s.Pool || now.Replica != s.Replica || now.State != provisioner.StateFailed {
			continue
		}
		if err := stopWaiting(ctx, stateDir, now, provisioner.ErrNotRunning); !errors.Is(err, provisioner.ErrNotRunning) {
			return err
		}
	}
	return nil
}

// stopWaiting stops a replica of which no engine was found: a manager may be about to start one.
func stopWaiting(ctx context.Context, stateDir string, s provisioner.Status, found error) error {
	idle := errors.Is(found, provisioner.ErrNotRunning) || errors.Is(found, provisioner.ErrNotFound)
	wanted := s.Restarts != nil && s.Restarts.Phase != report.PhaseStopped
	if !wanted || !idle && !errors.Is(found, provisioner.ErrBusy) {
		return found
	}
	answers, err := fleet.RequestStop(ctx, stateDir, s.ID())
	switch {
	case errors.Is(err, fleet.ErrNotManaged) || err != nil && idle:
		return found
	case err == nil && answers[0].Error != "":
		return errors.New(answers[0].Error)
	}
	return err
}

// stopResult is what became of one replica, as --output json tells it.
type stopResult struct {
	Pool    string `json:"pool"`
	Replica string `json:"replica"`
	Result  string `json:"result"` // "stopped" or "not running"
	Note    string `json:"note,omitempty"`
}

func (c *cli) stopTold(s provisioner.Status, result, note string) {
	name := s.Pool + "/" + s.Replica
	switch {
	case c.output.json:
		_ = writeJSON(c.std.out, stopResult{s.Pool, s.Replica, result, note})
	case note != "":
		fmt.Fprintf(c.std.out, "%s: %s (%s)\n", name, result, note)
	default:
		fmt.Fprintf(c.std.out, "%s: %s\n", name, result)
	}
}

// say tells people something.
func (c *cli) say(text string) {
	if !c.output.json {
		fmt.Fprintln(c.std.err, text)
	}
}
