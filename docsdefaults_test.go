package provisioner

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
	"github.com/llama-orch/engine-provisioner/settings"
)

// TestDocsNameEveryDefault holds the table of docs/engines.md to what launches get without a word of the user.
func TestDocsNameEveryDefault(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/engines.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## What our defaults change")
	table, _, _ = strings.Cut(table, "\n## ")
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `(--[a-z-]+)([^`]*)`").FindAllStringSubmatch(table, -1) {
		told = append(told, row[1]+" "+row[2]+row[3])
	}

	var added []string
	for _, kind := range []string{"llamacpp", "vllm", "sglang", "tgi"} {
		known := map[string]struct {
			server Engine
			host   engine.Host
		}{
			"llamacpp": {llamacpp.Engine{}, enginetable.LlamaServer(t)}, "vllm": {vllm.Engine{}, enginetable.VLLM(t)},
			"sglang": {sglang.Engine{}, enginetable.SGLang(t)}, "tgi": {tgi.Engine{}, enginetable.TGI(t)},
		}[kind]
		server, host := known.server, known.host
		host.GPUs = []engine.GPU{{UUID: "GPU-1"}, {UUID: "GPU-2"}}
		for _, flags := range [][]string{nil, {"--model-draft", "/d.gguf"}} {
			if flags != nil && kind != "llamacpp" {
				continue
			}
			for _, defaults := range []string{"", "engine"} {
				cfg := ProvisionConfig{Engine: kind, Port: 8081, Model: settings.Model{ID: "/models/m"}, Flags: flags, Defaults: defaults}
				spec, err := launchOf(server, cfg, host)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range spec.Flags {
					value := ""
					if kind == "llamacpp" {
						value = strings.Join(append([]string{""}, f.Args[1:]...), " ")
					}
					one := kind + " " + f.Args[0] + value
					switch {
					case f.Origin != engine.OriginDefault:
					case f.Note == "":
						t.Errorf("%s: no reason is told", one)
					case defaults == "engine" && f.Key != "drain.timeout":
						t.Errorf("%s is added beside \"defaults: engine\"", one)
					case !slices.Contains(added, one):
						added = append(added, one)
					}
				}
			}
		}
	}
	slices.Sort(told)
	slices.Sort(added)
	if !slices.Equal(told, added) {
		t.Errorf("docs/engines.md tells\n%s\nand added are\n%s", strings.Join(told, "\n"), strings.Join(added, "\n"))
	}
}
