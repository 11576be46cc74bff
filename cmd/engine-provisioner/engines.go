package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-orch/engine-provisioner/node"
)

func (c *cli) enginesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "engines",
		Short: "List the engines, and which of them this machine has",
		Long: `List the engines that "engine" in a pools file can name: the executable in PATH and its version, the provisioning
modes, the paths of its HTTP interface, and the time between SIGTERM and SIGKILL. "-" means that it is not known, or that
the pools file decides it. An executable that is not in PATH is named in the pools file.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			engines := node.Engines(cmd.Context())
			if err := interruption(cmd.Context()); err != nil {
				return err
			}
			if !c.output.json {
				return writeEngines(c.std.out, engines)
			}
			for _, e := range engines {
				if err := writeJSON(c.std.out, e); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// writeEngines writes a table for people, and under it what is wrong with executables that are there.
func writeEngines(out io.Writer, engines []node.Engine) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ENGINE\tVERSION\tMODES\tHEALTH\tVERSION AT\tMETRICS\tANSWER\tGRACE\tBINARY")
	for _, e := range engines {
		grace := ""
		if e.Grace > 0 {
			grace = e.Grace.String()
		}
		binary := e.Binary
		switch {
		case e.Command == "":
			binary = "as configured"
		case binary == "":
			binary = "no " + e.Command + " in PATH"
		}
		row := []string{
			e.Name, e.Version, strings.Join(e.Modes, ","),
			e.Endpoints.Health, e.Endpoints.Version, e.Endpoints.Metrics, e.Endpoints.Answer, grace, binary,
		}
		for i := range row {
			row[i] = cmp.Or(row[i], "-")
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, e := range engines {
		if e.Problem == "" || e.Binary == "" {
			continue
		}
		if _, err := fmt.Fprintf(out, "%s: %s\n", e.Name, e.Problem); err != nil {
			return err
		}
	}
	return nil
}
