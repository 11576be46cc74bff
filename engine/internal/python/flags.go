// Package python is what the engines that are programs in Python have in common: vLLM, SGLang, and TGI, whose shards are.
// They take a folder or fetch a model themselves, spread it over GPUs, and die with the same last words.
//
// It owns what is true of all three, and knows none of them by name. Only engines call it. It touches no file, network,
// process or environment.
package python

import (
	"cmp"
	"encoding/json"
	"path"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
)

// ModelFlags name the model, which stands after command, or after flag where there is one.
func ModelFlags(m *flagline.Line, command, flag string) []engine.Flag {
	name, revision := model(m)
	args := []string{command, flag, name}
	f := engine.Flag{Origin: engine.OriginProvisioner, Key: "model.id"}
	for _, arg := range args {
		if arg != "" {
			f.Args = append(f.Args, arg)
		}
	}
	flags := []engine.Flag{f}
	switch {
	case revision != "":
		flags = append(flags, engine.Flag{Args: []string{"--revision", revision}, Origin: engine.OriginProvisioner, Key: "model.id"})
	case m.Request.Model.Repository != "":
		flags[0].Note = `fetched by the engine; not pinned: "hf:owner/repository@commit" is always the same model`
	}
	return flags
}

// model is what stands for the model on the command line of an engine that fetches models itself.
func model(m *flagline.Line) (name, revision string) {
	if m.Host.ModelPath != "" {
		return m.Host.ModelPath, ""
	}
	return cmp.Or(m.Request.Model.Repository, m.Request.Model.ID), cmp.Or(m.Host.ModelRevision, m.Request.Model.Revision)
}

// ServedName is the name that clients call the model by. It adds the flag for it, unless the user did.
func ServedName(m *flagline.Line) string {
	if name := m.Said("served-model-name"); name != "" {
		return name
	}
	name, _ := model(m)
	if m.Request.EngineDefaults {
		return name
	}
	if m.Host.ModelPath != "" {
		name = path.Base(name)
	}
	m.Added = append(m.Added, engine.Flag{
		Args: []string{"--served-model-name", name}, Origin: engine.OriginDefault, Key: "model.id", Note: "what clients call the model",
	})
	return name
}

// Shards adds the flag for the number of GPUs, unless the user says how the model is spread.
func Shards(m *flagline.Line, flag string, subjects ...string) {
	n := len(m.Host.GPUs)
	if n < 2 || m.OnCPU() || m.Says(subjects...) || m.Request.EngineDefaults {
		return
	}
	m.Added = append(m.Added, engine.Flag{
		Args: []string{flag, strconv.Itoa(n)}, Origin: engine.OriginDefault, Key: "devices", Note: "the model is spread over all its GPUs",
	})
}

// GPUs is how many GPUs the user's flags ask for: the product of the subjects' numbers, 0 when nothing is said.
func GPUs(m *flagline.Line, subjects ...string) int {
	product := 1
	for _, s := range subjects {
		if n, err := strconv.Atoi(m.Said(s)); err == nil && n > 0 {
			product = min(product, 1<<20) * min(n, 1<<20)
		}
	}
	if m.OnCPU() || !m.Says(subjects...) {
		return 0
	}
	return product
}

// Context is the context that the flag asks for. It is none where the variable allows more than the model's own, or a
// flag changes what that is.
func Context(m *flagline.Line, flag, allowed string, changing ...string) int {
	if _, longer := m.Request.Env[allowed]; longer || m.Says(changing...) {
		return 0
	}
	return tokens(m.Said(flag))
}

// SpecialModel reports whether a flag says that the configuration or the weights are elsewhere, or of a form of their own.
func SpecialModel(m *flagline.Line) bool {
	return m.Says("load-format", "config-format", "hf-config-path")
}

// Completion asks an engine with the API of OpenAI for one token.
func Completion(model string) *engine.AnswerRequest {
	body, _ := json.Marshal(map[string]any{"model": model, "prompt": "Hi", "max_tokens": 1})
	return &engine.AnswerRequest{Path: "/v1/completions", Body: string(body)}
}

// tokens reads a number such as "4096", "4k" (4000) or "4K" (4096); 0 when there is none.
func tokens(s string) int {
	units := map[string]float64{"k": 1e3, "K": 1 << 10, "m": 1e6, "M": 1 << 20, "g": 1e9, "G": 1 << 30}
	factor := 1.0
	if s != "" {
		if f, ok := units[s[len(s)-1:]]; ok {
			factor, s = f, s[:len(s)-1]
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if n *= factor; err != nil || !(n >= 1 && n <= 1<<40) { // NaN, too
		return 0
	}
	return int(n)
}

// Advice for flags that no user may give.
const (
	AdviceRevision = `it is part of the model; write "model: {id: 'hf:owner/repository@revision'}"`
	AdviceNoServer = "a replica is one server that answers over HTTP; remove the flag"
	AdviceNodes    = "a replica runs on this node alone; remove the flag"
)
