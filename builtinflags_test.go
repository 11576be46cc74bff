package provisioner

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
)

func helpOf(t testing.TB, file string) engine.FlagSet {
	t.Helper()
	text, err := os.ReadFile("testdata/llamacpp/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return flagline.ParseLlama(string(text))
}

// TestBuiltinFlags keeps the built-in flags those of the newest recorded help.
func TestBuiltinFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		help, file string
		parse      func(string) engine.FlagSet
		line       func(engine.FlagDef) string
	}{
		{"llamacpp/help-b11669.txt", "engine/llamacpp/flags.txt", flagline.ParseLlama, llamaHelpLine},
		{"vllm/help-0.33.0.txt", "engine/vllm/flags.txt", flagline.ParseArgparse, argparseHelpLine},
		{"sglang/help-0.5.23.txt", "engine/sglang/flags.txt", sglang.Engine{}.Program(engine.Request{}).ParseHelp, argparseHelpLine},
		{"tgi/help-3.3.txt", "engine/tgi/flags.txt", flagline.ParseClap, clapHelpLine},
	} {
		text, err := os.ReadFile("testdata/" + tt.help)
		if err != nil {
			t.Fatal(err)
		}
		set := tt.parse(string(text))
		var b strings.Builder
		for _, d := range set.Defs {
			b.WriteString(tt.line(d) + "\n")
		}
		golden(t, tt.file, b.String())
		if got := tt.parse(b.String()); !reflect.DeepEqual(got, set) {
			t.Errorf("%s: the short form reads differently from the help that it was made of", tt.file)
		}
	}
}

func llamaHelpLine(d engine.FlagDef) string {
	line := strings.Join(slices.Concat(d.Names, d.Negated), ", ")
	if d.Value != "" {
		line += " " + d.Value
	}
	if d.Env != "" {
		line += "  (env: " + d.Env + ")"
	}
	return line
}

func argparseHelpLine(d engine.FlagDef) string {
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

func clapHelpLine(d engine.FlagDef) string {
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
