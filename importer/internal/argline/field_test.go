package argline_test

import (
	"encoding/csv"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// Command lines that people use, by the tables in testdata/field. What is done with them is measured against what the
// engine's own parser does.

// fieldLine is a command line that somebody uses.
type fieldLine struct {
	id, engine string
	args       []string
	env        map[string]string
	taken      bool // by the parser of the newest engine, as it stands
}

func fieldLines(t testing.TB) []fieldLine {
	t.Helper()
	var lines []fieldLine
	for _, name := range []string{"flags.tsv", "more.tsv"} {
		file, err := os.Open("testdata/field/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		rows := csv.NewReader(file)
		rows.Comma, rows.LazyQuotes, rows.FieldsPerRecord = '\t', true, 6
		all, err := rows.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range all[1:] {
			line := fieldLine{id: row[0], engine: row[1], taken: strings.HasPrefix(row[4], "yes")}
			if err := json.Unmarshal([]byte(row[2]), &line.args); err != nil {
				t.Fatalf("%s: %v", line.id, err)
			}
			if err := json.Unmarshal([]byte(row[3]), &line.env); err != nil {
				t.Fatalf("%s: %v", line.id, err)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// command is the line as it is written in a shell.
func (l fieldLine) command() []string {
	program := map[string][]string{
		"llamacpp": {"llama-server"}, "vllm": {"vllm", "serve"}, "sglang": {"python3", "-m", "sglang.launch_server"},
		"tgi": {"text-generation-launcher"},
	}[l.engine]
	if l.engine == "vllm" && len(l.args) > 0 && l.args[0] == "serve" {
		program = program[:1]
	}
	return slices.Concat(program, l.args)
}

// fieldHost is a machine with the newest version of the engine that is known, and two GPUs.
func fieldHost(t testing.TB, kind string) (provisioner.EngineWithFlags, engine.Host) {
	t.Helper()
	switch kind {
	case "llamacpp":
		return llamacpp.Engine{}, enginetable.LlamaServer(t)
	case "vllm":
		host := enginetable.VLLM(t)
		host.Binary.Version, host.Binary.Build, host.Binary.Flags = "0.33.0", version.Number("0.33.0"), vllm.Engine{}.Dialect().Builtin()
		return vllm.Engine{}, host
	case "sglang":
		return sglang.Engine{}, enginetable.SGLang(t)
	}
	return tgi.Engine{}, enginetable.TGI(t)
}

// onHost is an engine on a host that is known, whatever this one has.
type onHost struct {
	provisioner.EngineWithFlags
	host engine.Host
}

func (e onHost) Launch(req engine.Request, _ engine.Host) (engine.LaunchSpec, error) {
	return e.EngineWithFlags.Launch(req, e.host)
}

func dialect(t testing.TB, kind string) *flagline.Dialect {
	t.Helper()
	e, _ := fieldHost(t, kind)
	return e.Dialect()
}

// refusedLines are the lines that are refused although they are imported, and what the error says.
var refusedLines = map[string]string{
	// Flags of forks and of other programs.
	"L17": "--moe-expert-cache-size", "L19": "-mla", "L106": "-p", "L107": "--slot-save-auto", "L113": "-mla", "L114": "-mla",
	"L149": "-fmoe", "S02": "--fp4-gemm-backend", "T106": "--lora-ids",
	// Flags that are no more; the error names what there is instead.
	"L01": "--ctx-size-draft", "V01": "--hf-overrides", "V02": "--speculative-config",
	"V105": "leave it out", "V120": "leave it out",
	// A value for a switch, which no engine takes.
	"V16": `write "--no-enable-chunked-prefill" instead`, "V118": "takes no value", "T102": "takes no value", "T112": "takes no value",
}

// takeFieldLine imports a line, validates what that gives, and plans it. planned are the flags that come from the line.
func takeFieldLine(t testing.TB, line fieldLine) (cfg provisioner.ProvisionConfig, text string, planned []string, err error) {
	t.Helper()
	imported, err := read(line.command(), line.env)
	if err != nil {
		return cfg, "", nil, err
	}
	yaml := yamlOf(t, imported)
	config, err := provisioner.ParseConfig(yaml, "pools.yaml")
	if err != nil {
		return cfg, string(yaml), nil, err
	}
	cfg = config.Pools[0].ProvisionConfig.WithDefaults()
	kind, host := fieldHost(t, line.engine)
	_, spec, err := cfg.Describe(provisioner.WithEngine(onHost{kind, host}))
	if err != nil {
		return cfg, string(yaml), nil, err
	}
	for _, f := range spec.Flags {
		if f.Origin == engine.OriginConfig && !strings.HasPrefix(f.Key, "env.") {
			planned = append(planned, f.Args...)
		}
	}
	return cfg, string(yaml), planned, nil
}

// TestFieldLines measures how many of the lines that an engine takes are taken, and what becomes of their elements.
func TestFieldLines(t *testing.T) {
	t.Parallel()
	type measure struct{ lines, engineTakes, taken, changed int }
	all := map[string]*measure{}
	for _, line := range fieldLines(t) {
		if all[line.engine] == nil {
			all[line.engine] = &measure{}
		}
		m := all[line.engine]
		m.lines++
		if line.taken {
			m.engineTakes++
		}
		_, text, planned, err := takeFieldLine(t, line)
		if want := refusedLines[line.id]; err != nil {
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\n%s", line.id, err, text)
			}
			continue
		} else if want != "" {
			t.Errorf("%s is taken; want an error that says %q", line.id, want)
		}
		if line.taken {
			m.taken++
		}
		if left := withoutOwned(t, line); !bridged(line.engine, left, planned) {
			m.changed++
			t.Errorf("%s: changed\n%q\nto\n%q", line.id, left, planned)
		}
		if missing := lost(t, line, text); missing != "" {
			t.Errorf("%s: %q is lost in\n%s", line.id, missing, text)
		}
	}
	for _, kind := range []string{"llamacpp", "vllm", "sglang", "tgi"} {
		m := all[kind]
		t.Logf("%s: %d lines; its parser takes %d of them, of which %d are taken (%.0f %%); %d lines are changed",
			kind, m.lines, m.engineTakes, m.taken, 100*float64(m.taken)/float64(m.engineTakes), m.changed)
		if m.engineTakes == 0 || float64(m.taken) < 0.95*float64(m.engineTakes) {
			t.Errorf("%s: too few are taken", kind)
		}
	}
}

// ownedElements are flags whose meaning a key of the pools file has, by the number of their values.
var ownedElements = map[string]int{
	"--host": 1, "--hostname": 1, "--port": 1, "-p": 1, "--model": 1, "-m": 1, "--model-path": 1, "--model-id": 1, "-hf": 1,
	"--hf-repo": 1, "--hf-file": 1, "--revision": 1, "--api-key": 1, "--api-key-file": 1,
	"--log-file": 1, "--log-disable": 0, "--fim-qwen-7b-default": 0, "--config": 1, "--master-port": 1, "--shard-uds-path": 1,
	"--models-dir": 1, "--models-max": 1, "--models-autoload": 0, // refused as flags
}

// withoutOwned are the elements of a line that no key of the pools file has.
func withoutOwned(t testing.TB, line fieldLine) []string {
	var left []string
	args := line.args
	if line.engine == "vllm" && len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	}
	model := line.engine == "vllm" && !slices.Contains(args, "--model") // one that stands there without a flag
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		n, owned := ownedElements[name]
		switch {
		case owned && joined:
		case owned:
			i += n
		case slices.Contains([]string{"-ngl", "--gpu-layers", "--n-gpu-layers"}, args[i]) && args[i+1] == "0":
			i++ // "gpu: none"
		case model && len(left) == 0 && !strings.HasPrefix(args[i], "-"), model && strings.HasPrefix(args[i], "Qwen/"):
			model = false
		default:
			left = append(left, args[i])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(line.env)) { // those of older builds, which are imported as flags
		if change, ok := dialect(t, line.engine).ChangeOfEnv(name, line.env[name]); ok {
			left = append(left, change.Long())
		}
	}
	return left
}

// A bridge is elements that are written otherwise, and how, as docs/engines.md says.
type bridge struct{ from, to []string }

func word(from, to string) bridge { return bridge{strings.Fields(from), strings.Fields(to)} }

var bridges = map[string][]bridge{
	"llamacpp": {
		word("-ngl", "--n-gpu-layers"), word("--gpu-layers", "--n-gpu-layers"), word("--ngl", "--n-gpu-layers"),
		word("-np", "--parallel"), word("-cb", "--cont-batching"), word("-nocb", "--no-cont-batching"),
		word("--flash-attn", "--flash-attn on"), word("-fa", "-fa on"),
		word("--no-mmap --mlock", "--load-mode mlock"), word("--mlock --no-mmap", "--load-mode mlock"),
		word("--mlock --direct-io", "--load-mode mlock"), word("--no-mmap", "--load-mode none"), word("--mlock", "--load-mode mmap+mlock"),
		word("--draft-max", "--spec-draft-n-max"), word("--draft-min", "--spec-draft-n-min"),
		word("--draft-max", "--spec-ngram-mod-n-max"), word("--draft-min", "--spec-ngram-mod-n-min"),
		word("--spec-ngram-size-n", "--spec-ngram-mod-n-match"),
		word("-cnv", ""), // of another program
	},
	"vllm": {
		word("--enable-expert-paralle", "--enable-expert-parallel"), word("--max-num-seq", "--max-num-seqs"),
		word("--disable-log-requests", "--no-enable-log-requests"),
	},
	"sglang": {
		word("--max-prefill-token", "--max-prefill-tokens"), word("--mem-frac", "--mem-fraction-static"),
		word("--nsa-prefill-backend", "--dsa-prefill-backend"), word("--nsa-decode-backend", "--dsa-decode-backend"),
		word("--tensor-parallel-size", "--tp-size"), word("--tp", "--tp-size"), word("--dp", "--dp-size"), word("--cuda-graph-max-bs", "--cuda-graph-max-bs-decode"),
		word("--cuda-graph-bs", "--cuda-graph-bs-decode"), word("--disable-overlap", "--disable-overlap-schedule"),
	},
}

// bridged reports whether got is want, element by element and in its order, but for bridges.
func bridged(kind string, want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if len(got) > 0 && got[0] == hyphened(want[0]) && bridged(kind, want[1:], got[1:]) {
		return true
	}
	if name, value, ok := strings.Cut(want[0], "="); ok && len(got) > 0 && strings.HasSuffix(got[0], "="+value) {
		return bridged(kind, []string{name}, []string{strings.TrimSuffix(got[0], "="+value)}) && bridged(kind, want[1:], got[1:])
	}
	return slices.ContainsFunc(bridges[kind], func(b bridge) bool {
		return len(want) >= len(b.from) && slices.Equal(want[:len(b.from)], b.from) &&
			len(got) >= len(b.to) && slices.Equal(got[:len(b.to)], b.to) && bridged(kind, want[len(b.from):], got[len(b.to):])
	})
}

// hyphened is a long flag with hyphens in its name, which all engines but TGI take underscores for.
func hyphened(element string) string {
	if !strings.HasPrefix(element, "--") {
		return element
	}
	end := strings.IndexAny(element, "=.")
	if end < 0 {
		end = len(element)
	}
	return strings.ReplaceAll(element[:end], "_", "-") + element[end:]
}

// lost is the first flag of a line that the file says nothing of.
func lost(t testing.TB, line fieldLine, text string) string {
	words := strings.NewReplacer("'", "", `"`, "", `\`, "", "\n", " ").Replace(text)
	for _, f := range dialect(t, line.engine).Split(engine.FlagSet{}, line.args) {
		_, owned := ownedElements[f.Name]
		known := owned && !strings.HasPrefix(f.Name, "--models") || slices.Contains([]string{"-ngl", "--n-gpu-layers", "--gpu-layers"}, f.Name)
		if !f.Stray && !known && !strings.Contains(words, f.Name) {
			return f.Name
		}
	}
	return ""
}
