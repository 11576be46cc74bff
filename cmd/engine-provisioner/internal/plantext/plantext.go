// Package plantext says what a launch would run, and what a change of it is, in words for people.
//
// The command calls it; programs get the same as JSON. It finds nothing out.
package plantext

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/report"
)

// Write writes a plan.
func Write(out io.Writer, plan report.Plan) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s/%s: %s %s\n", plan.Pool, plan.Replica, plan.Engine, cmp.Or(plan.Version, "-"))
	rows := [][2]string{
		{"executable", cmp.Or(plan.Binary, "-")},
		{"folder", plan.Dir},
		{"model", cmp.Or(plan.Model, "-")},
		{"url", plan.URL},
		{"gpus", gpuNames(plan.GPUs)},
		{"memory", memory(plan.Memory)},
		{"grace", plan.Grace.String()},
		{"record", plan.Record},
		{"log", plan.Log},
		{"handoff", plan.Handoff},
	}
	if plan.Elsewhere {
		rows = [][2]string{{"model", plan.Model}, {"url", plan.URL}, {"grace", plan.Grace.String()}}
	}
	for _, row := range rows {
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
	if len(plan.Env) > 0 {
		fmt.Fprintln(w, "  environment:")
	}
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

// Change says what becomes of a key.
func Change(d report.Difference) string {
	switch {
	case d.Was != "" && d.Now != "":
		return fmt.Sprintf("was %s, will be %s", quoted(d.Was), quoted(d.Now))
	case d.Now != "":
		return "will be " + quoted(d.Now)
	case d.Was != "":
		return "was " + quoted(d.Was)
	case d.Why != "":
		return d.Why
	}
	return "changed"
}

// quoted is text from a configuration or a record, fit for a terminal.
func quoted(text string) string { return words([]string{text}) }
