package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/eventline"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/natural"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

func (c *cli) eventsCommand() *cobra.Command {
	var follow bool
	var after uint64
	lines, since := -1, time.Duration(-1)
	cmd := &cobra.Command{
		Use:   "events [POOL[/REPLICA]]...",
		Short: "Print what has happened to the replicas",
		Long: `Print what has happened to the replicas, oldest first, as kept by the managers of this state directory.
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
			_, err = fmt.Fprintln(c.std.out, eventline.Text(e))
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
	return c.unknown(slices.Compact(slices.SortedFunc(slices.Values(known), natural.Compare)))
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
