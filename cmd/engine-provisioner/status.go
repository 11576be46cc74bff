package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/cmd/engine-provisioner/internal/table"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/usage"
)

func (c *cli) statusCommand() *cobra.Command {
	var check, watch bool
	cmd := &cobra.Command{
		Use:   "status [POOL[/REPLICA]]...",
		Short: "Show the replicas of a state directory and their states",
		Long: `Show the replicas of a state directory: where they stand and how far a preparation or a load is, what they take of this machine,
the requests and tokens of their engines, and below one that has failed, why and what to do. The last line says who looks after
them. A narrow terminal lacks the columns on the right, and --output json has all. With --config, engines that run with other
settings than those of the file are shown as outdated. With --check the exit status is 0 only when all of them are ready, and
4 otherwise: for health checks of containers, and scripts.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := notBoth(cmd, "check", "watch"); err != nil {
				return err
			}
			if check {
				found, err := c.asked()
				if err == nil {
					err = c.check(found)
				}
				return err
			}
			if watch {
				return c.watchStatus(cmd.Context(), func() error { return c.showStatus(cmd.Context()) })
			}
			return c.showStatus(cmd.Context())
		},
	}
	c.chooseFlags(cmd)
	c.replicaArguments(cmd)
	cmd.Flags().BoolVar(&check, "check", false, "print nothing, and exit with 0 only when all are ready")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show them again and again until it is interrupted: on a terminal as \"top\" does")
	return cmd
}

// showStatus shows the replicas once.
func (c *cli) showStatus(ctx context.Context) error {
	found, stateDir, err := c.recorded()
	c.compare(ctx, found)
	c.measure(ctx, stateDir, found)
	if len(found) == 0 && err == nil {
		nothing := c.nothing(stateDir)
		if c.configFile != "" && !c.onlyState || c.stateDir != "" && !access.Exists(stateDir) { // who names something wants that
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
}

// ratesOver is how long a look takes that tells rates: the kernel counts processors' time in steps of 10 ms.
const ratesOver = 300 * time.Millisecond

// measure adds what the replicas take and do, with their rates where an engine may be at work. What cannot be measured is no
// error: where they stand is known.
func (c *cli) measure(ctx context.Context, stateDir string, all []provisioner.Status) {
	meter, err := usage.NewMeter(stateDir)
	if err == nil {
		err = fleet.Measure(ctx, meter, all)
	}
	if err == nil && slices.ContainsFunc(all, func(s provisioner.Status) bool { return s.Usage != nil && !s.Usage.Idle() }) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(ratesOver):
		}
		err = fleet.Measure(ctx, meter, all)
	}
	if err != nil {
		c.say("note: " + err.Error())
	}
}

func (c *cli) statusTable(all []provisioner.Status) error {
	t, out := table.Table{Now: time.Now()}, c.std.out
	if d := newDisplay(c.page, false); d.size != nil {
		out, t.Colour = c.page, d.colour // the colours, that is: the table has no other text that does something to a terminal
		if width, _, err := d.size(); err == nil && width > 0 {
			t.Width = width
		}
	}
	_, err := io.WriteString(out, strings.Join(t.Lines(all), "\n")+"\n")
	return err
}

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
