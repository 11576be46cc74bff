package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/node"
)

func (c *cli) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE] [POOL[/REPLICA]]...",
		Short: "Check whether this host can run engines, and those of a pools file",
		Long: `Check whether this host can run engines: executables, GPUs, the state directory, the kernel. Where there is a pools file,
check the file, too, and of each replica all that keeps it from starting here: its model, executable, flags, GPUs, secrets and
port. Each line begins with "ok", "warning" or "problem"; below the last two stands what to do. Nothing is started but an
executable's own --version and --help. The exit status is 1 if there is a problem.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.stateDir == "" {
				c.findFile()
			}
			problems, err := c.diagnose(cmd.Context())
			if err := errors.Join(err, interruption(cmd.Context())); err != nil {
				return err
			}
			if problems > 0 {
				return &toldError{fmt.Errorf("%s found", count(problems, "problem"))}
			}
			return nil
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	return cmd
}

// diagnose tells all that there is, and how many of it are problems.
func (c *cli) diagnose(ctx context.Context) (problems int, err error) {
	show := func(checks ...node.Check) {
		for _, check := range checks {
			if check.Level == node.CheckProblem {
				problems++
			}
			c.showCheck(check)
		}
	}
	configs, checks, err := c.checkFile()
	if err != nil {
		return 0, err
	}
	stateDir := c.stateDir
	if len(configs) > 0 {
		stateDir = configs[0].StateDir
	} else if run, err := c.readAnyway(); err == nil && stateDir == "" {
		stateDir = run.StateDir
	}
	show(node.Diagnose(ctx, stateDir)...)
	show(checks...)
	each := make([][]node.Check, len(configs))
	var all sync.WaitGroup
	for i, config := range configs {
		all.Go(func() { each[i] = node.DiagnoseReplica(ctx, config, withContainers()...) })
	}
	all.Wait()
	for _, checks := range each {
		show(checks...)
	}
	return problems, nil
}

// checkFile looks at the pools file, if there is one, and gives the replicas that the flags and arguments name.
func (c *cli) checkFile() (configs []provisioner.ProvisionConfig, checks []node.Check, err error) {
	const name = "configuration"
	if c.configFile == "" {
		return nil, nil, nil
	}
	configs, err = c.loadRun()
	if wrong, ok := errors.AsType[*provisioner.ConfigError](err); ok {
		for _, p := range wrong.Problems {
			one := provisioner.ConfigError{File: wrong.File, Problems: []provisioner.Problem{p}}
			checks = append(checks, node.Check{Name: name, Level: node.CheckProblem, Detail: one.Error()})
		}
		return nil, checks, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if config, err := c.config(); err == nil {
		for _, w := range config.Warnings() {
			checks = append(checks, node.Check{Name: name, Level: node.CheckWarning, Detail: warningText(c.configFile, w)})
		}
	}
	return configs, checks, nil
}

func (c *cli) showCheck(check node.Check) {
	if c.output.json {
		_ = writeJSON(c.std.out, check) // where stdout is gone there is nobody to tell
		return
	}
	fmt.Fprintf(c.std.out, "%-8s %s: %s\n", check.Level, check.Name, check.Detail)
	if check.Fix != "" {
		fmt.Fprintf(c.std.out, "         -> %s\n", strings.ReplaceAll(check.Fix, "\n", "\n            "))
	}
}
