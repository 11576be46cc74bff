package flagline

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
)

func recordedHelp(t testing.TB, file string) engine.FlagSet {
	t.Helper()
	text, err := os.ReadFile("../llamacpp/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return ParseLlama(string(text))
}

func TestParseLlamaHelp(t *testing.T) {
	t.Parallel()
	real11669, old := recordedHelp(t, "help-b11669.txt"), recordedHelp(t, "help-b5000.txt")
	if got := len(real11669.Defs); got != wantDefs(t) {
		t.Errorf("%d flags, want %d", got, wantDefs(t))
	}
	for _, tt := range []struct {
		set     engine.FlagSet
		name    string
		want    engine.FlagDef
		values  int
		negated bool
	}{
		{set: real11669, name: "-ngl", values: 1, want: engine.FlagDef{
			Names: []string{"-ngl", "--gpu-layers", "--n-gpu-layers"}, Value: "N", Env: "LLAMA_ARG_N_GPU_LAYERS",
		}},
		{set: real11669, name: "--no-kv-offload", negated: true, want: engine.FlagDef{
			Names: []string{"-kvo", "--kv-offload"}, Negated: []string{"-nkvo", "--no-kv-offload"}, Env: "LLAMA_ARG_KV_OFFLOAD",
		}},
		{set: real11669, name: "-nr", negated: true, want: engine.FlagDef{
			Names: []string{"--repack"}, Negated: []string{"-nr", "--no-repack"}, Env: "LLAMA_ARG_REPACK",
		}},
		{set: real11669, name: "--no-webui", negated: true, want: engine.FlagDef{
			Names: []string{"--ui", "--webui"}, Negated: []string{"--no-ui", "--no-webui"}, Env: "LLAMA_ARG_UI",
		}},
		{set: real11669, name: "--no-host", want: engine.FlagDef{Names: []string{"--no-host"}, Env: "LLAMA_ARG_NO_HOST"}},
		{set: real11669, name: "--metrics", want: engine.FlagDef{Names: []string{"--metrics"}, Env: "LLAMA_ARG_ENDPOINT_METRICS"}},
		{set: real11669, name: "-ot", values: 1, want: engine.FlagDef{
			Names: []string{"-ot", "--override-tensor"}, Value: "<tensor name pattern>=<buffer type>,...",
			Env: "LLAMA_ARG_OVERRIDE_TENSOR",
		}},
		{set: real11669, name: "--control_vector_layer_range", values: 2, want: engine.FlagDef{
			Names: []string{"--control-vector-layer-range"}, Value: "START END", Count: 2,
		}},
		{set: real11669, name: "-fa", values: 1, want: engine.FlagDef{
			Names: []string{"-fa", "--flash-attn"}, Value: "[on|off|auto]", Env: "LLAMA_ARG_FLASH_ATTN",
		}},
		{set: real11669, name: "--load-mode", values: 1, want: engine.FlagDef{
			Names: []string{"-lm", "--load-mode"}, Value: "MODE", Env: "LLAMA_ARG_LOAD_MODE",
		}},
		{set: old, name: "-fa", want: engine.FlagDef{Names: []string{"-fa", "--flash-attn"}, Env: "LLAMA_ARG_FLASH_ATTN"}},
		{set: old, name: "-nocb", want: engine.FlagDef{
			Names: []string{"-nocb", "--no-cont-batching"}, Env: "LLAMA_ARG_NO_CONT_BATCHING",
		}},
		{set: old, name: "--no-mmap", want: engine.FlagDef{Names: []string{"--no-mmap"}, Env: "LLAMA_ARG_NO_MMAP"}},
	} {
		got, negated, ok := Find(tt.set, tt.name)
		if !ok || negated != tt.negated || !reflect.DeepEqual(got, tt.want) || valueCount(got) != tt.values {
			t.Errorf("%s: got %+v (%d values, negated %v), want %+v (%d, %v)",
				tt.name, got, valueCount(got), negated, tt.want, tt.values, tt.negated)
		}
	}
	for _, name := range []string{"--draft-max", "--no-mmap", "-----", "--ngl", ""} {
		if Has(real11669, name) {
			t.Errorf("%q is listed, but this llama-server refuses it", name)
		}
	}
}

// wantDefs counts the flags of the recorded help another way.
func wantDefs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("../llamacpp/testdata/help-b11669.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "---") {
			n++
		}
	}
	return n - strings.Count(string(text), "the argument has been removed")
}

func FuzzParseHelp(f *testing.F) {
	for _, file := range []string{"help-b11669.txt", "help-b5000.txt"} {
		text, err := os.ReadFile("../llamacpp/testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text[:4096])) // the whole text makes the fuzzer slow
	}
	f.Add("-a, --b N  text (env: X)\n-----\n--c, \n  -d\n--e <x y> z\n")
	f.Add("--no-a, --a, -b  the argument has been removed\n")
	f.Add("--no- a\n  --no-\n      --no-\n")
	f.Add("  --a A, -b A  text\n  --c, --no-c, -d\n  --e E [E ...]\n  --f [F ...]\n  --g ['x', 'y']\n  -h, --help\n")
	f.Add("  -p, --port <PORT>\n          [env: PORT=80]\n      --s <S>  [possible values: true, false]\n      --m [<M>]...\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) engine.FlagSet{ParseLlama, ParseArgparse, ParseClap} {
			checkFlagSet(t, parse(text))
		}
	})
}

func checkFlagSet(t *testing.T, set engine.FlagSet) {
	t.Helper()
	for _, d := range set.Defs {
		if len(d.Names) == 0 {
			t.Errorf("a flag without a name: %+v", d)
		}
		if valueCount(d) < 0 || Subject(d) == "" {
			t.Errorf("%+v: %d values, subject %q", d, valueCount(d), Subject(d))
		}
		for _, n := range slices.Concat(d.Names, d.Negated) {
			if !flagShape.MatchString(n) || !Has(set, n) {
				t.Errorf("%q is no flag or cannot be found", n)
			}
		}
	}
}
