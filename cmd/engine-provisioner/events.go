package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/report"
)

func (c *cli) eventsCommand() *cobra.Command {
	var follow bool
	var after uint64
	lines, since := -1, time.Duration(-1)
	cmd := &cobra.Command{
		Use:   "events [POOL[/REPLICA]]...",
		Short: "Print what has happened to the replicas",
		Long: `Print what has happened to the replicas, oldest first, as kept by the runs of this state directory.
With --follow it also prints what happens from now on, in later runs too, until it is interrupted (exit status 0). --lines and --since leave out what was before.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var oldest time.Time
			if since >= 0 {
				oldest = time.Now().Add(-since)
			}
			return c.printEvents(cmd.Context(), follow, lines, func(e provisioner.Event) bool {
				return (e.Seq == 0 || e.Seq > after) && !e.Time.Before(oldest)
			})
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "also print what happens from now on")
	cmd.Flags().VarP((*linesValue)(&lines), "lines", "n", "only this many of those that are kept, the last ones; -1 means all")
	cmd.Flags().Var((*linesValue)(&lines), "tail", "the same as --lines")
	cmd.Flags().Var((*durationValue)(&since), "since", "only what has happened in this time, such as 1h")
	cmd.Flags().Uint64Var(&after, "after", 0, "leave out the events up to this number, the \"seq\" of --output json")
	return cmd
}

func (c *cli) printEvents(ctx context.Context, follow bool, lines int, wanted func(provisioner.Event) bool) error {
	state, chosen, err := c.choice()
	if err != nil {
		return err
	}
	about := func(e provisioner.Event) bool { // what is about no replica is about all
		return wanted(e) && (e.Pool == "" || chosen(e.Pool, e.Replica))
	}
	from := uint64(0)
	if lines >= 0 {
		from = lastBut(lines, fleet.ReadEvents(ctx, state, false), about)
	}
	known, kept := c.knownReplicas(), false
	var lost error
	for e, err := range fleet.ReadEvents(ctx, state, follow) {
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err != nil {
			lost = &toldError{err}
			c.say("note: " + tail.Clean(err.Error()))
			continue
		}
		if kept = true; e.Pool != "" {
			known = append(known, e.Pool+"/"+e.Replica)
		}
		if e.Seq <= from && lines >= 0 || !about(e) {
			continue
		}
		if c.output.json {
			err = writeJSON(c.std.out, e)
		} else {
			_, err = fmt.Fprintln(c.std.out, eventText(e))
		}
		if err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
	}
	switch {
	case follow:
		return nil
	case !kept && lost != nil:
		return lost
	case !kept:
		c.say(fmt.Sprintf("no events are kept in %q; managers keep them", cmp.Or(state, ".runtime")))
	}
	return c.unknown(slices.Compact(slices.Sorted(slices.Values(known))))
}

// lastBut is the number of the last event before the last n that are wanted; 0 where there are no more than those.
func lastBut(n int, events iter.Seq2[provisioner.Event, error], wanted func(provisioner.Event) bool) uint64 {
	var last []uint64 // n+1 numbers
	for e, err := range events {
		if err != nil || !wanted(e) {
			continue
		}
		if last = append(last, e.Seq); len(last) > n+1 {
			last = last[1:]
		}
	}
	if len(last) <= n {
		return 0
	}
	return last[0]
}

// choice is the state directory and which of its replicas the flags name.
func (c *cli) choice() (state string, of func(pool, replica string) bool, err error) {
	c.findState()
	if c.configFile == "" || c.onlyState {
		state, err = c.state()
		return state, c.chosen, err
	}
	configs, err := c.loadRun()
	if err != nil {
		return "", nil, err
	}
	return configs[0].StateDir, func(pool, replica string) bool {
		return slices.ContainsFunc(configs, func(cfg provisioner.ProvisionConfig) bool {
			return cfg.PoolID == pool && cfg.ReplicaID == replica
		})
	}, nil
}

// eventText is an event in one line: when, who, what, and the details that there are.
func eventText(e provisioner.Event) string {
	what := string(e.Kind)
	switch {
	case e.Kind == provisioner.EventState:
		what = string(e.State)
	case e.Kind == provisioner.EventRestart && e.Restarts != nil && e.Restarts.Phase == report.PhaseFailed:
		what = "given up"
	}
	var details []string
	detail := func(is bool, format string, args ...any) {
		if is {
			details = append(details, fmt.Sprintf(format, args...))
		}
	}
	detail(e.PID != 0, "pid %d", e.PID)
	detail(e.Attempt > 1, "attempt %d", e.Attempt)
	detail(e.Took > 0 && e.From != "" && e.From != provisioner.StateNew, "%s for %s", e.From, roughly(e.Took))
	detail(e.Took > 0 && e.From == "", "took %s", roughly(e.Took))
	if e.ExitCode != nil && *e.ExitCode >= 0 {
		detail(true, "exit code %d", *e.ExitCode)
	}
	detail(e.Cause != "", "cause %s", e.Cause)
	detail(e.StoppedBy != nil && e.State.Final(), "by %s", e.StoppedBy)
	if r := e.Restarts; r != nil {
		detail(r.Phase == report.PhaseOpen, "breaker open")
		detail(!r.RetryAt.IsZero(), "next try %s", r.RetryAt.Local().Format(time.DateTime))
	}
	name := "-"
	if e.Pool != "" {
		name = e.Pool + "/" + e.Replica
	}
	line := e.Time.Local().Format("2006-01-02 15:04:05.000") + "  " + name + "  " + what
	if len(details) > 0 {
		line += "  (" + strings.Join(details, ", ") + ")"
	}
	// The words of an error can have several lines; the first says what happened.
	// Those of a restart are told by the failure before it.
	if first, _, _ := strings.Cut(e.Message, "\n"); first != "" && e.Kind != provisioner.EventRestart {
		line += "  " + first
	}
	line = tail.Clean(line)
	if e.Missed > 0 {
		line = fmt.Sprintf("%d events are missing here\n", e.Missed) + line
	}
	return line
}

func roughly(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond).String()
}
