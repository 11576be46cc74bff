package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/natural"
)

func (c *cli) resetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset [POOL[/REPLICA]]...",
		Short: "Forget the failures of replicas and start them at once",
		Long: `Forget the failures of replicas. The manager that looks after them immediately starts those that wait for their next try
or were given up. A replica that was stopped by a command is only started if it or its pool is named. Without arguments, all
replicas of the state directory are reset. Without a manager nothing is started, and the next one starts as if nothing had
failed.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.requestNamed(cmd.Context(), fleet.RequestReset)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	return cmd
}

func (c *cli) reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the manager read its pools file again and apply what has changed",
		Long: `Have the manager of the state directory read its pools file again. First, replicas that are no longer in the file are
drained and stopped. Settings that only the manager acts on, such as restart or drain, are taken over while the engines run
on. Replicas that have failed are tried again. Then the engines whose launch or executable has changed are replaced, one
after the other, each with its drain; all other replicas of the pool stay ready. If a new engine does not become ready,
the old one is started again, and the rest of its pool is left as it is. Finally, new replicas are started. A file with an
error changes nothing, and nor does the name of another file than the manager's.

The command returns when all is done. Interrupting it does not stop the reload.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.configFile == stdin {
				return &usageError{err: errors.New("the manager reads a file again; name that, or none")}
			}
			err := c.request(cmd.Context(), func(ctx context.Context, stateDir string) ([]fleet.Answer, error) {
				return fleet.RequestReload(ctx, stateDir, c.configFile)
			})
			if errors.Is(err, fleet.ErrNotManaged) {
				c.say("to replace engines that were left running, start a manager with --replace-outdated")
			}
			return err
		},
	}
	c.placeFlags(cmd)
	return cmd
}

// requestNamed puts a request about the replicas that are named, of those that the file has or that have run; about all when
// none is.
func (c *cli) requestNamed(ctx context.Context, ask func(context.Context, string, ...provisioner.ReplicaID) ([]fleet.Answer, error)) error {
	return c.request(ctx, func(ctx context.Context, stateDir string) ([]fleet.Answer, error) {
		var ids []provisioner.ReplicaID
		if c.chooses() {
			found, err := c.asked()
			if err != nil {
				return nil, err
			}
			if err := c.unknown(slices.Compact(slices.SortedFunc(slices.Values(append(c.knownReplicas(), namesOf(found)...)), natural.Compare))); err != nil {
				return nil, err
			}
			for _, s := range found {
				ids = append(ids, s.ID())
			}
		}
		return ask(ctx, stateDir, ids...)
	})
}

// request puts a request to the manager and tells its answer.
func (c *cli) request(ctx context.Context, ask func(context.Context, string) ([]fleet.Answer, error)) error {
	stateDir, err := c.state()
	if err != nil {
		return err
	}
	answers, err := ask(ctx, stateDir)
	errs := []error{}
	for _, a := range answers {
		if c.output.json {
			_ = writeJSON(c.std.out, a) // where stdout is gone there is nobody to tell
		} else {
			fmt.Fprintf(c.std.out, "%s/%s: %s\n", a.Pool, a.Replica, resultText(a))
		}
		if a.Error != "" {
			errs = append(errs, refused(stateDir, a))
		}
	}
	if errors.Is(err, fleet.ErrNotManaged) {
		return err // which some commands can do without
	}
	if len(answers) == 0 && err == nil {
		c.say("there was nothing to do")
	}
	return c.reportAll(append(errs, err))
}

// answerError is what a manager has answered, and which error of the library that was, as far as it can be told.
type answerError struct {
	text string
	is   error
}

func (e *answerError) Error() string { return e.text }
func (e *answerError) Unwrap() error { return e.is }

// refused is the error of an answer. Scripts can tell that of a replica that is held from others.
func refused(stateDir string, a fleet.Answer) error {
	err := &answerError{text: a.Error}
	all, _ := fleet.Statuses(stateDir, withContainers()...) // what cannot be read of others does not matter
	if slices.ContainsFunc(all, func(s provisioner.Status) bool {
		return s.Hold != nil && s.Pool == a.Pool && s.Replica == a.Replica
	}) {
		err.is = hold.ErrHeld
	}
	return err
}

// resultText is a result for people, with what they can do about it.
func resultText(a fleet.Answer) string {
	switch fleet.ReloadResult(a.Result) {
	case fleet.ReloadStarted:
		return "new in the file, started"
	case fleet.ReloadUpdated:
		return "updated, and its engine runs on"
	case fleet.ReloadRetried:
		return "had failed, and is ready"
	case fleet.ReloadRemoved:
		return "not in the file any more, stopped"
	case fleet.ReloadSkipped:
		return "left as it is, because another replica of the pool failed"
	case fleet.ReloadStopped:
		return "stopped, and left so"
	}
	switch a.Result {
	case fleet.ResultUnheld:
		return "not held any more"
	case fleet.ResultForgotten:
		return "its failures are forgotten; no manager looks after it, so nothing was started"
	}
	return a.Result
}
