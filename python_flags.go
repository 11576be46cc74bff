package provisioner

import (
	"cmp"
	"encoding/json"
	"path"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// What vLLM, SGLang and TGI have in common: they take a folder or fetch a model themselves, and spread it over GPUs.

// modelFlags name the model, which stands after command, or after flag where there is one.
func (m *flagMerge) modelFlags(command, flag string) []engine.Flag {
	name, revision := m.model()
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
	case m.req.Model.Repository != "":
		flags[0].Note = `fetched by the engine; not pinned: "hf:owner/repository@commit" is always the same model`
	}
	return flags
}

// model is what stands for the model on the command line of an engine that fetches models itself.
func (m *flagMerge) model() (name, revision string) {
	if m.host.ModelPath != "" {
		return m.host.ModelPath, ""
	}
	return cmp.Or(m.req.Model.Repository, m.req.Model.ID), cmp.Or(m.host.ModelRevision, m.req.Model.Revision)
}

// servedName is the name that clients call the model by. It adds the flag for it, unless the user did.
func (m *flagMerge) servedName() string {
	if name := m.said("served-model-name"); name != "" {
		return name
	}
	name, _ := m.model()
	if m.engineDefaults() {
		return name
	}
	if m.host.ModelPath != "" {
		name = path.Base(name)
	}
	m.defaults = append(m.defaults, engine.Flag{
		Args: []string{"--served-model-name", name}, Origin: engine.OriginDefault, Key: "model.id", Note: "what clients call the model",
	})
	return name
}

// shards adds the flag for the number of GPUs, unless the user says how the model is spread.
func (m *flagMerge) shards(flag string, subjects ...string) {
	n := len(m.host.GPUs)
	if n < 2 || m.onCPU() || m.says(subjects...) || m.engineDefaults() {
		return
	}
	m.defaults = append(m.defaults, engine.Flag{
		Args: []string{flag, strconv.Itoa(n)}, Origin: engine.OriginDefault, Key: "devices", Note: "the model is spread over all its GPUs",
	})
}

// gpus is how many GPUs the user's flags ask for: the product of the subjects' numbers, 0 when nothing is said.
func (m *flagMerge) gpus(subjects ...string) int {
	product := 1
	for _, s := range subjects {
		if n, err := strconv.Atoi(m.said(s)); err == nil && n > 0 {
			product = min(product, 1<<20) * min(n, 1<<20)
		}
	}
	if m.onCPU() || !m.says(subjects...) {
		return 0
	}
	return product
}

// context is the context that the flag asks for. It is none where the variable allows more than the model's own, or a
// flag changes what that is.
func (m *flagMerge) context(flag, allowed string, changing ...string) int {
	if _, longer := m.req.Env[allowed]; longer || m.says(changing...) {
		return 0
	}
	return tokens(m.said(flag))
}

// completion asks an engine with the API of OpenAI for one token.
func completion(model string) *engine.AnswerRequest {
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
