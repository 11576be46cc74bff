package enginetable

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/test/golden"
)

// BuiltinFlags keeps the built-in flags, in flags.txt, those of the newest recorded help.
func BuiltinFlags(t *testing.T, help string, parse func(string) engine.FlagSet, line func(engine.FlagDef) string) {
	t.Helper()
	set := parse(help)
	var b strings.Builder
	for _, d := range set.Defs {
		b.WriteString(line(d) + "\n")
	}
	golden.Check(t, "flags.txt", b.String())
	if got := parse(b.String()); !reflect.DeepEqual(got, set) {
		t.Error("flags.txt: the short form reads differently from the help that it was made of")
	}
}

// LlamaLine is a flag as llama-server's help has it.
func LlamaLine(d engine.FlagDef) string {
	line := strings.Join(slices.Concat(d.Names, d.Negated), ", ")
	if d.Value != "" {
		line += " " + d.Value
	}
	if d.Env != "" {
		line += "  (env: " + d.Env + ")"
	}
	return line
}

// ArgparseLine is a flag as Python's argparse has it.
func ArgparseLine(d engine.FlagDef) string {
	line := "  " + strings.Join(slices.Concat(d.Names, d.Negated), ", ")
	switch {
	case d.Many && d.Optional:
		line += " [" + d.Value + " ...]"
	case d.Many:
		line += " " + d.Value + " [" + d.Value + " ...]"
	case d.Optional:
		line += " [" + d.Value + "]"
	case d.Value != "":
		line += " " + d.Value
	}
	return line
}

// ClapLine is a flag as Rust's clap has it.
func ClapLine(d engine.FlagDef) string {
	line := "      "
	if len(d.Names) > 1 {
		line = "  " + d.Names[0] + ", "
	}
	line += d.Names[len(d.Names)-1]
	list, isChoice := strings.CutPrefix(d.Value, "{")
	switch {
	case isChoice:
		line += " <VALUE>  [possible values: " + strings.ReplaceAll(strings.TrimSuffix(list, "}"), ",", ", ") + "]"
	case d.Value != "":
		line += " <" + d.Value + ">"
	}
	if d.Env != "" {
		line += "  [env: " + d.Env + "=]"
	}
	return line
}

// Normalized compares what a dialect makes of command lines. Their elements are joined with "|".
func Normalized(t *testing.T, d *flagline.Dialect, lines map[string]string) {
	t.Helper()
	for line, want := range lines {
		var in []string
		if line != "" {
			in = strings.Split(line, "|")
		}
		kept := slices.Clone(in)
		if got := strings.Join(d.Normalize(in), "|"); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
		if !slices.Equal(in, kept) {
			t.Errorf("%q: the argument was changed to %q", line, in)
		}
	}
}

// FuzzFlags checks the promises about command lines: to normalize is idempotent, and what it gives back is the elements of the
// user in their order, apart from the documented rewriting of single elements; and a launch either names a problem or passes
// on each flag, in order.
func FuzzFlags(f *testing.F, e EngineWithFlags, hosts ...engine.Host) {
	f.Helper()
	for _, s := range []string{
		"--parallel|1", "-ngl=-1|--ngl|3", "-fa=-ngl", "-fa|--port|1", "--alias|-ngl=3", "x|-1|--|-", "--=|-=|=",
		"--metrics=1", "--no_cont_batching|-cb", "--control-vector-layer-range|1|2", "--unknown|a|-b|c", "--draft_max=1|-n",
		"--served-model-name|a|b|--gpu-mem=1|-O3|--cc.x+|y|-p8080|--max|--num_shard|-1|--tensor-parallel-size|2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		in := strings.Split(list, "|")
		checkNormalized(t, e.Dialect(), in)
		for _, host := range append(hosts, engine.Host{}) {
			checkLaunchKeeps(t, e, in, host)
		}
	})
}

// checkNormalized checks that a second time changes nothing, and that all that is given back comes from the list.
func checkNormalized(t *testing.T, d *flagline.Dialect, in []string) {
	t.Helper()
	out := d.Normalize(in)
	if again := d.Normalize(out); !slices.Equal(again, out) {
		t.Fatalf("%q: once %q, twice %q", in, out, again)
	}
	rest := out
	for _, element := range in {
		switch name, value, joined := strings.Cut(element, "="); {
		case len(rest) == 0:
			t.Fatalf("%q: %q is lost in %q", in, element, out)
		case rest[0] == element, sameFlag(d, element, rest[0]):
			rest = rest[1:]
		case joined && !d.Joined && sameFlag(d, name, rest[0]) && len(rest) > 1 && rest[1] == value:
			rest = rest[2:]
		case joined && d.Joined && strings.HasSuffix(rest[0], "="+value) && sameFlag(d, name, strings.TrimSuffix(rest[0], "="+value)):
			rest = rest[1:]
		default:
			t.Fatalf("%q: %q became %q in %q", in, element, rest[0], out)
		}
	}
	if len(rest) > 0 {
		t.Fatalf("%q: %q was made up", in, rest)
	}
}

func checkLaunchKeeps(t *testing.T, e EngineWithFlags, in []string, host engine.Host) {
	t.Helper()
	spec, err := e.Launch(Case{Flags: in}.Request(), host)
	if err != nil {
		return
	}
	var want, got []string
	for _, f := range e.Dialect().Split(host.Binary.Flags, in) {
		want = append(want, fmt.Sprintf("flags[%d]", f.Index))
	}
	for _, f := range spec.Flags {
		if f.Origin == engine.OriginConfig {
			got = append(got, f.Key)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q: the flags at %q were passed on, want %q", in, got, want)
	}
}

// sameFlag reports whether b is a spelling that a may be rewritten to.
func sameFlag(d *flagline.Dialect, a, b string) bool {
	_, full, _ := d.LookUp(engine.FlagSet{}, a)
	return strings.HasPrefix(a, "-") && (a == b || full == b || d.Canonical[full] == b)
}
