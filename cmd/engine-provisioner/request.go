package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
)

// replicaName is how a replica is named as an argument.
var replicaName = regexp.MustCompile(`^[^/]+/[^/]+$`)

func (c *cli) resetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset [POOL/REPLICA]...",
		Short: "Forget the failures of replicas and start them at once",
		Long: `Forget the failures of replicas, and have the run that looks after them start at once what waits for its next try or
was given up. A replica that was stopped by a command is started when it is named. Without arguments it is about all
replicas of the state directory. Where no run is at work, the next one starts without memory of failures.`,
		Args: func(_ *cobra.Command, args []string) error {
			for _, arg := range args {
				if !replicaName.MatchString(arg) {
					return fmt.Errorf("cannot reset %q: name a replica as POOL/REPLICA, such as chat/r0", arg)
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			return c.request(cmd.Context(), func(ctx context.Context, stateDir string) ([]provisioner.Answer, error) {
				return provisioner.RequestReset(ctx, stateDir, names...)
			})
		},
	}
	c.placeFlags(cmd)
	return cmd
}

func (c *cli) reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have a run read its pools file again and do what has changed in it",
		Long: `Have the run in the foreground that looks after the state directory read its pools file again, and replace the engines of
replicas whose settings or whose executable have changed: one after the other, with their drain, and of each pool all but
one replica stay ready. An engine that does not become ready is replaced by the old one, and the rest of its pool is left
as it is. Before that, replicas that are gone from the file are drained and stopped; after it, new ones are started. A file
with a mistake changes nothing.

It returns when all is done. An interruption ends the wait alone.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := c.request(cmd.Context(), provisioner.RequestReload)
			if errors.Is(err, provisioner.ErrNotManaged) {
				c.say("a run with --replace-outdated replaces engines that were left running")
			}
			return err
		},
	}
	c.placeFlags(cmd)
	return cmd
}

// request puts a request to the manager and tells its answer.
func (c *cli) request(ctx context.Context, ask func(context.Context, string) ([]provisioner.Answer, error)) error {
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
			errs = append(errs, errors.New(a.Error))
		}
	}
	if len(answers) == 0 && err == nil {
		c.say("there was nothing to do")
	}
	return c.reportAll(append(errs, err))
}

// resultText is a result for people, with what they can do about it.
func resultText(a provisioner.Answer) string {
	switch provisioner.ReloadResult(a.Result) {
	case provisioner.ReloadStarted:
		return "new in the file, started"
	case provisioner.ReloadRemoved:
		return "not in the file any more, stopped"
	case provisioner.ReloadSkipped:
		return "left as it is, because another replica of the pool failed"
	case provisioner.ReloadStopped:
		return "stopped, and left so"
	}
	return a.Result
}
