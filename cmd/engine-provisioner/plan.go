package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
)

func (c *cli) planCommand() *cobra.Command {
	var diff bool
	cmd := &cobra.Command{
		Use:   "plan [--config FILE]",
		Short: "Show what would be run, and why, without starting anything",
		Long: `Show what would be run, and why: the executable, the model, the memory it needs, and for each element of the command
line where it comes from. Nothing is started. An executable is asked for its version and flags once. With --diff, show
instead by which keys each replica's engine differs from what would be run: what a reload would replace it for.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.needFile(cmd); err != nil {
				return err
			}
			load := c.load
			if diff {
				load = c.loadRun
			}
			configs, err := load()
			if err != nil {
				return err
			}
			errs := make([]error, len(configs))
			for i, config := range configs {
				if diff {
					errs[i] = about(config.Name(), c.showDiff(cmd.Context(), config))
					continue
				}
				c.inspect(cmd.Context(), config)
				var plan report.Plan
				if plan, errs[i] = node.Plan(cmd.Context(), config, withContainers()...); errs[i] == nil {
					errs[i] = c.showPlan(plan)
				}
				errs[i] = about(config.Name(), errs[i])
			}
			if err := interruption(cmd.Context()); err != nil {
				return err
			}
			return c.reportAll(errs)
		},
	}
	c.chooseFlags(cmd)
	cmd.Flags().BoolVar(&diff, "diff", false, "show by what the engines that run differ from the file")
	return cmd
}

// inspect has the executable asked for its flags, if that was not done before. What is wrong with it, the plan tells.
func (c *cli) inspect(ctx context.Context, config provisioner.ProvisionConfig) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = node.Inspect(ctx, config)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
		fmt.Fprintln(c.std.err, "asking the engine for its flags; this is done once for each version")
		<-done
	}
}

func (c *cli) showPlan(plan report.Plan) error {
	if c.output.json {
		return writeJSON(c.std.out, plan)
	}
	return writePlan(c.std.out, plan)
}

// writePlan writes a plan for people.
func writePlan(out io.Writer, plan report.Plan) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s/%s: %s %s\n", plan.Pool, plan.Replica, plan.Engine, orDash(plan.Version))
	for _, row := range [][2]string{
		{"executable", orDash(plan.Binary)},
		{"folder", plan.Dir},
		{"model", orDash(plan.Model)},
		{"url", plan.URL},
		{"gpus", gpuNames(plan.GPUs)},
		{"memory", memory(plan.Memory)},
		{"grace", plan.Grace.String()},
		{"record", plan.Record},
		{"log", plan.Log},
		{"handoff", plan.Handoff},
	} {
		fmt.Fprintf(w, "  %s\t%s\n", row[0], tail.Clean(row[1]))
	}
	for _, todo := range plan.Pending {
		fmt.Fprintf(w, "  first\t%s\n", todo)
	}
	for _, note := range plan.Notes {
		fmt.Fprintf(w, "  note\t%s\n", note)
	}
	fmt.Fprintln(w, "  command line:")
	for _, f := range plan.Flags {
		fmt.Fprintf(w, "    %s\t%s\n", words(f.Args), join(string(f.Origin), f.Key, f.Note))
	}
	if slices.ContainsFunc(plan.Flags, func(f engine.Flag) bool { return f.Origin == engine.OriginDefault }) {
		fmt.Fprintln(w, "    (those of \"default\" are left out with: \"defaults: engine\")")
	}
	fmt.Fprintln(w, "  environment:")
	for _, v := range plan.Env {
		fmt.Fprintf(w, "    %s\t%s\n", v.Name, v.Origin)
	}
	if len(plan.LeftBehind) > 0 {
		fmt.Fprintln(w, "  set here, and not passed on:")
	}
	for _, v := range plan.LeftBehind {
		fmt.Fprintf(w, "    %s\t%s\n", tail.Clean(v.Name), tail.Clean(v.How))
	}
	return w.Flush()
}

// memory says the numbers of an estimate.
func memory(needs []report.MemoryNeed) string {
	if len(needs) == 0 {
		return "no estimate"
	}
	words := make([]string, len(needs))
	for i, need := range needs {
		words[i] = need.String()
		if !need.Fits() {
			words[i] += ", which is NOT ENOUGH"
		}
	}
	return strings.Join(words, "; ")
}

func gpuNames(gpus []engine.GPU) string {
	if len(gpus) == 0 {
		return "none: the CPU"
	}
	names := make([]string, len(gpus))
	for i, g := range gpus {
		names[i] = fmt.Sprintf("%d %s (%s)", g.Index, g.Name, g.ID())
	}
	return strings.Join(names, ", ")
}

// words writes argv elements such that it can be seen where each begins and ends.
func words(args []string) string {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = a
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || !strconv.IsPrint(r) }) {
			shown[i] = strconv.Quote(a)
		}
	}
	return strings.Join(shown, " ")
}

// join leaves out what is empty.
func join(origin, key, note string) string {
	text := origin
	if key != "" {
		text += ", " + key
	}
	if note != "" {
		text += ": " + note
	}
	return text
}
