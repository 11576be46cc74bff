package flagline

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

// argparseProgram prints its help with every shape that argparse has for a value.
const argparseProgram = `
import argparse
p = argparse.ArgumentParser(prog="x", formatter_class=lambda prog: argparse.HelpFormatter(prog, width=200))
p.add_argument("--one")
p.add_argument("--text", metavar="{a,b} or name registered in --other or [more]")
p.add_argument("--list", metavar=str(["auto", "hf"]))
p.add_argument("--choice", "-c", choices=["a", "b"])
p.add_argument("--two", nargs=2)
p.add_argument("--named", nargs=2, metavar=("START", "END"))
p.add_argument("--maybe", nargs="?")
p.add_argument("--any", nargs="*", type=int)
p.add_argument("--some", nargs="+", metavar="name=path or JSON")
p.add_argument("--switch", action="store_true")
p.add_argument("--both", "-b", action=argparse.BooleanOptionalAction)
p.print_help()
`

// TestParseArgparseHelp asks the real argparse, whose shapes differ by its version.
func TestParseArgparseHelp(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), needPython(t), "-c", argparseProgram).Output()
	if err != nil {
		t.Fatal(err)
	}
	set := ParseArgparse(string(out))
	for _, tt := range []struct {
		name                    string
		values                  int
		many, optional, negated bool
	}{
		{name: "--one", values: 1},
		{name: "--text", values: 1},
		{name: "--list", values: 1},
		{name: "--choice", values: 1},
		{name: "-c", values: 1},
		{name: "--two", values: 2},
		{name: "--named", values: 2},
		{name: "--maybe", values: 1, optional: true},
		{name: "--any", values: 1, many: true, optional: true},
		{name: "--some", values: 1, many: true},
		{name: "--switch"},
		{name: "--both"},
		{name: "-b"},
		{name: "--no-both", negated: true},
	} {
		def, negated, ok := Find(set, tt.name)
		if !ok || valueCount(def) != tt.values || def.Many != tt.many || def.Optional != tt.optional || negated != tt.negated {
			t.Errorf("%s: got %+v, %d values, negated %v; want %+v", tt.name, def, valueCount(def), negated, tt)
		}
	}
}

func TestArgparseMetavar(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]engine.FlagDef{
		"N":                     {Value: "N"},
		"[N]":                   {Value: "N", Optional: true},
		"[N ...]":               {Value: "N", Optional: true, Many: true},
		"[N [N ...]]":           {Value: "N", Optional: true, Many: true}, // Python 3.8
		"N [N ...]":             {Value: "N", Many: true},
		"a b [a b ...]":         {Value: "a b", Many: true},
		"N N":                   {Value: "N N", Count: 2},
		"x x x":                 {Value: "x x x", Count: 3},
		"START END":             {Value: "START END", Count: 2},
		"{a,b} or a name":       {Value: "{a,b} or a name"},
		"['auto', 'hf']":        {Value: "['auto', 'hf']"},
		"path to a file":        {Value: "path to a file"},
		"[{a,b} ...]":           {Value: "{a,b}", Optional: true, Many: true},
		"[a] or [b]":            {Value: "[a] or [b]"},
		"{a b,c d} [{a b} ...]": {Value: "{a b,c d} [{a b} ...]"},
	} {
		var got engine.FlagDef
		readMetavar(&got, text)
		if got.Value != want.Value || got.Count != want.Count || got.Optional != want.Optional || got.Many != want.Many {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
}

func TestClapValue(t *testing.T) {
	t.Parallel()
	help := strings.Join([]string{
		"      --one <ONE>",
		"  -t, --two <X> <Y>",
		"      --more <A>...",
		"      --maybe [<M>]",
		"      --equals[=<E>]  with text after it",
		"      --switch",
	}, "\n")
	var got []string
	for _, d := range ParseClap(help).Defs {
		got = append(got, d.Names[len(d.Names)-1]+" "+strings.Repeat("v", valueCount(d))+map[bool]string{true: "?"}[d.Optional]+map[bool]string{true: "+"}[d.Many])
	}
	if want := []string{"--one v", "--two vv", "--more v+", "--maybe v?", "--equals v?", "--switch "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func needPython(t *testing.T) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("python3 is not there, and its argparse is asked: %v", err)
	}
	return python
}
