package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/filearg"
	"github.com/llama-orch/engine-provisioner/node"
)

func (c *cli) renderCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print files for schedulers and service managers",
	}
	cmd.AddCommand(c.renderSystemdCommand(), c.renderKubernetesCommand(), c.renderSlurmCommand(), c.renderComposeCommand(), c.renderQuadletCommand())
	return cmd
}

// renderedUnit is a unit as --output json tells it.
type renderedUnit struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

func (c *cli) renderSystemdCommand() *cobra.Command {
	var spec node.UnitSpec
	cmd := &cobra.Command{
		Use:   "systemd [--config FILE]",
		Short: "Print a systemd unit that runs a pools file",
		Long: `Print a systemd unit that runs all replicas of a pools file with this very executable. Nothing is installed.
The unit's time limits are derived from the file: print it again when "ready.timeout", "drain.timeout", "stop.grace" or
"state_dir" change.`,
		Example: `  engine-provisioner render systemd --config /etc/llm/pools.yaml > /etc/systemd/system/engine-provisioner.service
  engine-provisioner render systemd --config pools.yaml --user --name chat > ~/.config/systemd/user/chat.service`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needFile(cmd); err != nil {
				return err
			}
			if c.configFile == stdin {
				return &usageError{err: errors.New("a unit names its file; write it to one")}
			}
			config, err := provisioner.LoadConfig(c.configFile)
			if err != nil {
				return err
			}
			if spec.Executable, err = os.Executable(); err != nil {
				return fmt.Errorf("cannot find this executable: %w", err)
			}
			text, err := node.SystemdUnit(config, spec)
			if err != nil {
				return &usageError{err: err}
			}
			if c.output.json {
				return writeJSON(c.std.out, renderedUnit{spec.Name + ".service", text})
			}
			_, err = io.WriteString(c.std.out, text)
			return err
		},
	}
	cmd.Flags().VarP((*filearg.Once)(&c.configFile), "config", "c", "the pools file (default: pools.yaml, if it is here)")
	cmd.Flags().BoolVar(&spec.User, "user", false, "for your own service manager (systemctl --user) instead of the system's")
	cmd.Flags().StringVar(&spec.Name, "name", "engine-provisioner", `name of the unit without ".service", and of its folders`)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
	return cmd
}
