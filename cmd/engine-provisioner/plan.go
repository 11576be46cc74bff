package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/plantext"
	"github.com/llama-orch/engine-provisioner/internal/tool"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
)

func (c *cli) planCommand() *cobra.Command {
	var diff, noHost bool
	cmd := &cobra.Command{
		Use:   "plan [--config FILE] [POOL[/REPLICA]]...",
		Short: "Show what would be run, and why, without starting anything",
		Long: `Show what would be run, and why: the executable, the model, the memory it needs, and for each element of the command
line where it comes from. Nothing is started. An executable is asked for its version and flags once. With --diff, show
instead by which keys each replica's engine differs from what would be run: what a reload would replace it for. With
--no-host, nothing of this machine is looked at: show what the file alone tells of a launch on another one, such as a
build for a GPU that is not here.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmp.Or(notBoth(cmd, "diff", "no-host"), c.needFile(cmd)); err != nil {
				return err
			}
			load := c.load
			if diff {
				load = c.loadRun
			}
			configs, err := load()
			if err != nil {
				return err
			}
			var errs []error
			for _, config := range configs {
				if diff {
					errs = append(errs, about(config.Name(), c.showDiff(cmd.Context(), config)))
					continue
				}
				if noHost {
					errs = append(errs, about(config.Name(), c.planElsewhere(config)))
					continue
				}
				for _, err := range c.plan(cmd.Context(), config) {
					errs = append(errs, about(config.Name(), err))
				}
			}
			if err := interruption(cmd.Context()); err != nil {
				return err
			}
			return c.reportAll(errs)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVar(&diff, "diff", false, "show by what the engines that run differ from the file")
	cmd.Flags().BoolVar(&noHost, "no-host", false, "look at nothing of this machine: show what the file alone tells")
	return cmd
}

// plan shows what would be run, or returns all that keeps it from that.
func (c *cli) plan(ctx context.Context, config provisioner.ProvisionConfig) []error {
	if err := c.inspect(ctx, config); deaf(err) {
		return problems(ctx, config, err)
	}
	plan, err := node.Plan(ctx, config, withContainers()...)
	if err != nil {
		return problems(ctx, config, err)
	}
	return []error{c.showPlan(plan)}
}

// planElsewhere shows what would be run on another machine.
func (c *cli) planElsewhere(config provisioner.ProvisionConfig) error {
	plan, err := node.Elsewhere(config, withContainers()...)
	if err != nil {
		return err
	}
	return c.showPlan(plan)
}

// problems are all that keep a replica from starting, of which err is the first that was found.
func problems(ctx context.Context, config provisioner.ProvisionConfig, err error) []error {
	return node.ProblemsAfter(ctx, config, err, withContainers()...)
}

// deaf reports whether an error is that of an executable that never answers: to ask it again takes another minute.
func deaf(err error) bool {
	ask, ok := errors.AsType[*tool.AskError](err)
	return ok && ask.Deaf()
}

// inspect has the executable asked for its flags, if that was not done before. What is wrong with it, the plan tells.
func (c *cli) inspect(ctx context.Context, config provisioner.ProvisionConfig) error {
	done := make(chan error, 1)
	go func() {
		_, err := node.Inspect(ctx, config)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Second):
		fmt.Fprintln(c.std.err, "asking the engine for its flags; this is done once for each version")
		return <-done
	}
}

func (c *cli) showPlan(plan report.Plan) error {
	if c.output.json {
		return writeJSON(c.std.out, plan)
	}
	return plantext.Write(c.std.out, plan)
}
