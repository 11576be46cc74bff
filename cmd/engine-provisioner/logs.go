package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/launchlog"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

func (c *cli) logsCommand() *cobra.Command {
	var follow, previous bool
	lines, since := -1, time.Duration(-1)
	cmd := &cobra.Command{
		Use:   "logs [POOL[/REPLICA]]...",
		Short: "Print the logs of the replicas' last launches",
		Long: `Print the logs of the replicas' last launches, without control characters. Of several replicas, each line begins with the
name of its replica; without --follow one log comes after the other. With --follow it also prints what is added, and the
next launches, until it is interrupted (exit status 0). With --since, only the logs that have grown in that time are printed,
also of earlier launches, each whole: lines of engines tell no time.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if follow && previous {
				return &usageError{err: errors.New("--follow and --previous exclude each other: an earlier launch has ended")}
			}
			found, stateDir, err := c.recorded()
			if len(found) == 0 {
				return cmp.Or(err, c.nothing(stateDir))
			}
			wanted := logsWanted{follow: follow, previous: previous, lines: lines, since: since}
			if len(found) == 1 {
				return c.printLog(cmd.Context(), found[0], wanted, prefix{})
			}
			return c.printLogs(cmd.Context(), found, wanted)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "also print what is added, and the next launches")
	cmd.Flags().BoolVar(&previous, "previous", false, "the log of the launch before the last one")
	cmd.Flags().VarP((*linesValue)(&lines), "lines", "n", "only this many lines from the end, of each log; -1 means all")
	cmd.Flags().Var((*linesValue)(&lines), "tail", "the same as --lines")
	cmd.Flags().Var((*durationValue)(&since), "since", "all logs that have grown in this time, such as 10m")
	return cmd
}

// logsWanted is what is to be printed of a replica.
type logsWanted struct {
	follow, previous bool
	lines            int           // -1: all
	since            time.Duration // -1: only the last launch
}

// printLogs prints the logs of several replicas: one after the other, or all as they grow.
func (c *cli) printLogs(ctx context.Context, all []provisioner.Status, wanted logsWanted) error {
	errs := make([]error, len(all))
	prefixes := c.prefixes(all)
	if !wanted.follow {
		for i, s := range all {
			errs[i] = c.printLog(ctx, s, wanted, prefixes[i])
		}
		return c.reportAll(errs)
	}
	var work sync.WaitGroup
	for i, s := range all {
		work.Go(func() {
			if errs[i] = c.printLog(ctx, s, wanted, prefixes[i]); errs[i] != nil {
				c.say("note: " + errs[i].Error()) // the others go on
			}
		})
	}
	work.Wait()
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return &toldError{errs[0]}
}

// printLog prints the logs of one replica.
func (c *cli) printLog(ctx context.Context, status provisioner.Status, wanted logsWanted, before prefix) error {
	p, name := launchlog.Printer{Write: c.printerOf(status, before)}, status.ID().String()
	path := status.Log
	if path == "" && status.Restarts != nil { // no launch has got so far
		return fmt.Errorf("%s has no log yet; it failed with: %s", name, status.Restarts.Last)
	}
	var err error
	if wanted.previous {
		if path, err = launchlog.Neighbour(path, -1); err == nil && path == "" {
			err = fmt.Errorf("cannot read the log: there is none of an earlier launch of %s", name)
		}
		if err != nil {
			return err
		}
	}
	if wanted.since >= 0 {
		if path, err = launchlog.GrownSince(path, time.Now().Add(-wanted.since)); err != nil {
			return err
		}
	}
	if path == status.Log {
		if file := procfs.OpenMoved(status.PID, path); file != nil {
			defer file.Close()
			if name := procfs.NameOf(file); name != "" {
				c.say(fmt.Sprintf("note: the log %q was renamed to %q", path, name))
			} else {
				c.say(fmt.Sprintf("note: the log %q was removed; this is what the engine still holds of it, and it is lost when the engine ends", path))
			}
			path = fmt.Sprintf("/proc/self/fd/%d", file.Fd())
		}
	}
	if err := p.Open(path, wanted.lines); err != nil {
		return err
	}
	defer p.Close()
	began := func(launch int64) {
		if !c.output.json {
			fmt.Fprintf(c.std.err, "==> %s: launch %d\n", name, launch)
		}
	}
	if !wanted.follow {
		if wanted.since >= 0 {
			return p.PrintOn(began)
		}
		return p.Print(true)
	}
	return p.Follow(ctx, began)
}

// printerOf writes the lines of one replica's log.
func (c *cli) printerOf(status provisioner.Status, before prefix) func(launch int64, line string) error {
	w := c.std.out
	if before.end != "" {
		w = c.page // what is shown there are colours of our own, and clean lines
	}
	return func(launch int64, line string) error {
		if c.output.json {
			return writeJSON(c.std.out, logLine{Pool: status.Pool, Replica: status.Replica, Launch: launch, Line: line})
		}
		_, err := fmt.Fprintln(w, before.text+before.end+line)
		return err
	}
}

// logLine is a line of a log as --output json tells it.
type logLine struct {
	Event   string `json:"event,omitempty"` // "log" among the events of a run
	Pool    string `json:"pool"`
	Replica string `json:"replica"`
	Launch  int64  `json:"launch"`
	Line    string `json:"line"`
}

// logLine repeats what an engine of a run has written.
func (c *cli) logLine(id provisioner.ReplicaID, launch int64, line string) error {
	if c.output.json {
		return writeJSON(c.std.out, logLine{"log", id.Pool, id.Replica, launch, line})
	}
	_, err := fmt.Fprintf(c.std.out, "%s | %s\n", id, line)
	return err
}

// prefix is what begins each line of one of several logs.
type prefix struct{ text, end string }

// prefixes name the replicas in one column, neighbours in different colours where stdout is a terminal that has some.
func (c *cli) prefixes(all []provisioner.Status) []prefix {
	colours := []int{36, 33, 32, 35, 34, 31} // cyan, yellow, green, magenta, blue, red
	width := 0
	for _, name := range namesOf(all) {
		width = max(width, len(name))
	}
	isColoured := newDisplay(c.page, c.output.json).colour
	found := make([]prefix, len(all))
	for i, name := range namesOf(all) {
		found[i].text = fmt.Sprintf("%-*s | ", width, name)
		if isColoured {
			found[i] = prefix{fmt.Sprintf("\x1b[%dm", colours[i%len(colours)]) + found[i].text, "\x1b[0m"}
		}
	}
	return found
}

// linesValue is a number of lines, or -1.
type linesValue int

func (l *linesValue) Type() string   { return "number" }
func (l *linesValue) String() string { return strconv.Itoa(int(*l)) }

func (l *linesValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < -1 {
		return errors.New("write a number of lines, or -1 for all")
	}
	*l = linesValue(n)
	return nil
}
