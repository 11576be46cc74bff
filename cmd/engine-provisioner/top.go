package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/top"
)

func (c *cli) topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top [POOL[/REPLICA]]...",
		Short: "Show the replicas live, with keys to act on them",
		Long: `Show the replicas of a state directory live: the table of "status", a look a second, and of the one that is chosen its tokens,
requests and memory over the last minute, its events and the end of its log. Keys stop, start, restart, reset and hold it; "?"
shows all of them. It needs a terminal; "status --watch" also writes to a pipe. Quitting leaves the engines alone.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := c.screenOf()
			if err != nil {
				return err
			}
			return c.top(cmd.Context(), out)
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	return cmd
}

// screenOf is the terminal that stdout is, where keys come from one, too.
func (c *cli) screenOf() (*os.File, error) {
	out, _ := c.page.(*os.File)
	in, _ := c.std.in.(*os.File)
	if c.output.json || out == nil || in == nil || newDisplay(c.page, false).size == nil || !term.IsTerminal(int(in.Fd())) {
		return nil, &usageError{err: errors.New(`"top" needs a terminal; "status" writes to a pipe, and "status --watch" again and again`)}
	}
	return out, nil
}

// top shows the replicas until its user quits.
func (c *cli) top(ctx context.Context, out *os.File) error {
	_, stateDir, err := c.recorded() // what is wrong with the arguments, and where they lead
	if err != nil {
		return err
	}
	if c.stateDir == "" {
		c.stateDir = stateDir // nothing more is to be told of how it was found
	}
	source, err := top.Live(stateDir, func() ([]provisioner.Status, error) {
		found, _, err := c.recorded()
		return found, err
	}, withContainers()...)
	if err != nil {
		return err
	}
	err = top.Run(ctx, source, c.std.in.(*os.File), out, newDisplay(c.page, false).colour, c.say)
	if interruption(ctx) != nil {
		return nil //nolint:nilerr // whoever ends a view wants nothing more
	}
	return err
}

// watchPeriod is the time between the tables of "status --watch".
const watchPeriod = 2 * time.Second

// watchStatus is top on a terminal, and elsewhere a table every now and then, until it is interrupted.
func (c *cli) watchStatus(ctx context.Context, show func() error) error {
	if out, err := c.screenOf(); err == nil {
		return c.top(ctx, out)
	}
	for {
		if err := show(); err != nil {
			return err
		}
		if !c.output.json {
			if _, err := c.std.out.Write([]byte(strings.Repeat("-", 8) + "\n")); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPeriod):
		}
	}
}
