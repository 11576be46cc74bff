package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
)

func (c *cli) statusCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status [POOL[/REPLICA]]...",
		Short: "Show the replicas of a state directory and their states",
		Long: `Show the replicas of a state directory and their states. For those that a run in the foreground looks after, it also shows
when they are tried again, and whether they were given up. With --config, engines that run with other settings than those
of the file are shown as outdated. With --check the exit status is 0 only when all of them are ready, and 4 otherwise: for
health checks of containers, and scripts.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				found, err := c.asked()
				if err == nil {
					err = c.check(found)
				}
				return err
			}
			found, stateDir, err := c.recorded()
			c.compare(cmd.Context(), found)
			if len(found) == 0 && err == nil {
				nothing := c.nothing(stateDir)
				if c.configFile != "" && !c.onlyState {
					return nothing
				}
				c.say(nothing.Error())
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
				if failed := c.statusTable(found); err == nil {
					err = failed
				}
			}
			return err
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVar(&check, "check", false, "print nothing, and exit with 0 only when all are ready")
	return cmd
}

func (c *cli) statusTable(all []provisioner.Status) error {
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
		state += outlookOf(s, time.Now())
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Pool, s.Replica, state, pid, url, uptime, orDash(s.Version))
	}
	return w.Flush()
}

// outlookOf says what is to come of a replica, for people.
func outlookOf(s provisioner.Status, now time.Time) string {
	switch r := s.Restarts; {
	case s.Hold != nil && s.PID == 0:
		return ", " + s.Hold.String()
	case s.Outdated:
		return ", outdated" + because(s.Differs)
	case r == nil || s.PID > 0:
		return ""
	case r.Phase == report.PhaseFailed:
		return ", given up"
	case r.Phase == report.PhaseStopped && s.State == provisioner.StateFailed:
		return ", stopped"
	case r.Phase == report.PhaseBackoff:
		return ", next try in " + until(r.RetryAt, now)
	case r.Phase == report.PhaseOpen:
		return ", breaker open, next try in " + until(r.RetryAt, now)
	}
	return ""
}

// because names what differs, shortly: a status is one line.
func because(differs []report.Difference) string {
	const most = 4
	var names []string
	for i, d := range differs {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(differs)-most))
			break
		}
		names = append(names, d.String())
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

func until(at, now time.Time) string { return max(0, at.Sub(now)).Round(time.Second).String() }

// compare marks what runs with other settings than those of the file, if one was named.
func (c *cli) compare(ctx context.Context, found []provisioner.Status) {
	if c.configFile == "" {
		return
	}
	configs, err := c.loadRun()
	if err != nil {
		return // it has been told
	}
	for i, s := range found {
		at := slices.IndexFunc(configs, func(cfg provisioner.ProvisionConfig) bool { return cfg.Name() == s.Pool+"/"+s.Replica })
		if at < 0 || s.PID == 0 {
			continue
		}
		differs, err := node.Differences(ctx, configs[at], withContainers()...)
		if err != nil {
			c.say(fmt.Sprintf("note: cannot find out whether %s/%s is outdated: %v", s.Pool, s.Replica, err))
			continue
		}
		found[i].Outdated, found[i].Differs = len(differs) > 0, differs
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
