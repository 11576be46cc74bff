package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/hold"
)

func (c *cli) holdCommand() *cobra.Command {
	var reason string
	var last durationValue
	var node bool
	cmd := &cobra.Command{
		Use:   "hold {POOL[/REPLICA]... | --node} --reason TEXT",
		Short: "Stop replicas and keep them stopped",
		Long: `Stop replicas, each with its drain, and keep them stopped: no start, reload or restart, no next manager and no reboot starts
them, until "unhold", or until the time is over that --for gives. "status", the events and the metrics tell who holds them,
since when, and why. With --node, all replicas of the state directory are held, those included that come later.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needNamed(node); err != nil {
				return err
			}
			h, err := hold.New(reason, time.Duration(last))
			if err != nil {
				return &usageError{err: err, help: cmd.CommandPath() + " --help"}
			}
			return c.requestNamed(cmd.Context(), func(ctx context.Context, stateDir string, ids ...provisioner.ReplicaID) ([]fleet.Answer, error) {
				return fleet.RequestHold(ctx, stateDir, h, ids, withContainers()...)
			})
		},
	}
	c.holdFlags(cmd, &node)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever finds them stopped; one line")
	cmd.Flags().Var(&last, "for", "the hold ends after this time, such as 2h (default: it does not end by itself)")
	return cmd
}

func (c *cli) unholdCommand() *cobra.Command {
	var node bool
	cmd := &cobra.Command{
		Use:   "unhold {POOL[/REPLICA]... | --node}",
		Short: "End the hold of replicas",
		Long: `End the hold of replicas. The manager of the state directory starts them, unless they were stopped by "stop", too; where there
is none, the next one does. With --node, the hold of all is ended; replicas that were held by their names stay so.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needNamed(node); err != nil {
				return err
			}
			return c.requestNamed(cmd.Context(), fleet.RequestUnhold)
		},
	}
	c.holdFlags(cmd, &node)
	return cmd
}

func (c *cli) holdFlags(cmd *cobra.Command, node *bool) {
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVar(node, "node", false, "all replicas of the state directory, also those that come later")
}

// needNamed wants either replicas or the whole node: nobody holds everything by leaving a name out.
func (c *cli) needNamed(node bool) error {
	switch {
	case node && c.chooses():
		return &usageError{err: errors.New("--node is for all replicas; name none beside it")}
	case !node && !c.chooses():
		return &usageError{err: errors.New("no replicas are chosen; name them as POOL or POOL/REPLICA, or give --node")}
	}
	return nil
}
