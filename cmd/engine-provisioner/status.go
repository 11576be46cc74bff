package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
)

func (c *cli) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the replicas of a state directory and where they stand",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			found, stateDir, err := c.recorded()
			if len(found) == 0 && err == nil {
				c.say(c.nothing(stateDir).Error())
				return nil
			}
			if c.output.json {
				for _, s := range found {
					if err := writeJSON(c.std.out, s); err != nil {
						return err
					}
				}
				return err
			}
			if len(found) > 0 {
				c.statusTable(found)
			}
			return err
		},
	}
	c.chooseFlags(cmd)
	return cmd
}

func (c *cli) statusTable(all []provisioner.Status) {
	w := tabwriter.NewWriter(c.std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POOL\tREPLICA\tSTATE\tPID\tURL\tUPTIME\tVERSION")
	for _, s := range all {
		state, pid, url, uptime := string(s.State), "-", "-", "-"
		if s.PID > 0 {
			pid, uptime = fmt.Sprint(s.PID), time.Since(s.StartedAt).Truncate(time.Second).String()
			url = s.URL
		} else if s.State == provisioner.StateFailed && s.Exit != "" {
			state += " (" + s.Exit + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Pool, s.Replica, state, pid, url, uptime, orDash(s.Version))
	}
	_ = w.Flush() // where stdout is gone there is nobody to tell
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
