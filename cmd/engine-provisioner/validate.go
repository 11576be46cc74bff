package main

import (
	"fmt"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/filearg"
)

// validFile says that a pools file is valid, as --output json tells it.
type validFile struct {
	File     string `json:"file"`
	Valid    bool   `json:"valid"` // always true: what is wrong with a file is told as an error
	Pools    int    `json:"pools"`
	Replicas int    `json:"replicas"`

	Warnings []provisioner.Problem `json:"warnings,omitempty"` // what may go wrong on this host
}

func (c *cli) validateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate [FILE...]",
		Short: "Check pools files without looking at the host",
		Long: `Check pools files completely, without looking at the host: whether models and executables exist is not checked, and the
flags of an engine only as far as they are known without it. "plan" does that.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, files []string) error {
			if c.configFile != "" {
				files = append([]string{c.configFile}, files...)
			}
			if len(files) == 0 {
				if err := c.needFile(cmd); err != nil {
					return err
				}
				files = []string{c.configFile}
			}
			errs := make([]error, len(files))
			for i, file := range files {
				errs[i] = c.validate(filearg.Of(file))
			}
			return c.reportAll(errs)
		},
	}
	cmd.Flags().VarP((*filearg.Once)(&c.configFile), "config", "c", "the pools file, or - for stdin (default: pools.yaml, if it is here)")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	return cmd
}

func (c *cli) validate(file string) error {
	of := cli{std: c.std, configFile: file}
	config, err := of.config()
	if err != nil {
		return err
	}
	replicas, err := config.Replicas("")
	if err != nil {
		return err
	}
	if file == stdin {
		file = "stdin"
	}
	if c.output.json {
		return writeJSON(c.std.out, validFile{file, true, len(config.Pools), len(replicas), config.Warnings()})
	}
	for _, w := range config.Warnings() {
		fmt.Fprintln(c.std.err, "warning: "+warningText(file, w))
	}
	_, err = fmt.Fprintf(c.std.out, "%s: ok, %s, %s\n", file, count(len(config.Pools), "pool"), count(len(replicas), "replica"))
	return err
}

// warningText is a warning with its place, as the problems of a file are told.
func warningText(file string, w provisioner.Problem) string {
	return fmt.Sprintf("%s:%d:%d: %s: %s", file, w.Line, w.Column, w.Key, w.Message)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
