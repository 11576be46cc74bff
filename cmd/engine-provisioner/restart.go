package main

import (
	"errors"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
)

func (c *cli) startCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start [POOL[/REPLICA]]...",
		Short: "Start replicas that are stopped or have failed",
		Long: `Start replicas, also those that a command has stopped, and return when each is ready or has failed; those that run go on.
Without arguments, all of them. The manager of the state directory starts them, by its own settings. Where there is none, the
replicas of the pools file are started and left running, as by --detach.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := c.requestNamed(cmd.Context(), fleet.RequestStart)
			if !errors.Is(err, fleet.ErrNotManaged) {
				return err
			}
			return c.startDetached(cmd)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	return cmd
}

func (c *cli) restartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restart [POOL[/REPLICA]]...",
		Short: "Stop replicas and start them again",
		Long: `Stop replicas, each with its drain, and start them again with the same settings; those of a pool one after the other, so
that the others serve on. It returns when all are ready. Without arguments, all that no command has stopped. The manager of
the state directory does it. Where there is none, the replicas of the pools file are stopped, started and left running, as by
--detach, if nothing is wrong with their settings.

What has changed in the file is not looked at by a manager: that is what "reload" does.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := c.requestNamed(cmd.Context(), fleet.RequestRestart)
			if !errors.Is(err, fleet.ErrNotManaged) {
				return err
			}
			if err := c.needFileWithoutManager(cmd); err != nil {
				return err
			}
			configs, err := c.load()
			if err == nil {
				err = c.checkEach(cmd.Context(), configs)
			}
			if err == nil {
				err = c.stopReplicas(cmd.Context(), provisioner.StopOptions{})
			}
			if err != nil {
				return err
			}
			return c.startDetached(cmd)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	return cmd
}

// startDetached starts what is chosen of the file where no manager is at work.
func (c *cli) startDetached(cmd *cobra.Command) error {
	if err := c.needFileWithoutManager(cmd); err != nil {
		return err
	}
	return c.runReplicas(cmd.Context(), runFlags{detach: true, stopped: true}, c)
}

// needFileWithoutManager is needFile where it was a manager that could have done without.
func (c *cli) needFileWithoutManager(cmd *cobra.Command) error {
	c.onlyState = false
	if c.findFile() {
		return nil
	}
	return &usageError{
		err:  errors.New("no manager is at work in the state directory, and there is no pools file: name one with --config"),
		help: cmd.CommandPath() + " --help",
	}
}
