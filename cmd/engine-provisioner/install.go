package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/pod"
)

func (c *cli) installCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install DIR",
		Short: "Copy this executable into a folder",
		Long: `Copy this executable into a folder, as DIR/engine-provisioner, and print its path. An init container of a pod does that, so that
the image of the engine, which has none, can run it. An image with nothing else in it has no cp.`,
		Example: "  engine-provisioner install /ep",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := pod.Install(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.std.out, path)
			return err
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
}
