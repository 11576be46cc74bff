package provisioner

import (
	"context"
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
)

// EngineInfo is what this host has of an engine, and how the engine is run.
type EngineInfo struct {
	Name string `json:"engine"`
	// Command is the executable's usual name; "" when the configuration must name it.
	Command string `json:"command,omitempty"`
	// Binary is the absolute path of Command in PATH; "" when there is none.
	Binary  string   `json:"binary,omitempty"`
	Version string   `json:"version,omitempty"` // of Binary; "" when unknown
	Modes   []string `json:"modes"`             // the provisioning modes that suit it
	// Model is what the engine serves.
	Model engine.ModelKind `json:"model,omitempty"`
	// Port is the one that it listens on when nobody says which; 0 when there is none.
	Port int `json:"port,omitempty"`
	// Endpoints are where the running engine is asked, with its default flags.
	Endpoints Endpoints `json:"endpoints,omitzero"`
	// Grace is how long it is given between SIGTERM and SIGKILL where the configuration says nothing; 0 when only the
	// configuration knows.
	Grace Duration `json:"grace,omitempty"`
	// Problem says why there is no Binary, or no Version of it; "" when nothing is wrong.
	Problem string `json:"problem,omitempty"`
}

// Endpoints are paths of a running engine's pages. "" means that there is no such page, or that the configuration alone
// knows it.
type Endpoints struct {
	Health  string `json:"health,omitempty"`
	Version string `json:"version,omitempty"`
	Metrics string `json:"metrics,omitempty"`
	Answer  string `json:"answer,omitempty"` // of a request for one token
}

// Engines lists the engines of this build, and what is in PATH of each. An executable is asked for its version at most once
// for all time, and not at all where it would take long, as with vLLM. Of opts, those matter that add an engine or set
// the cache.
func Engines(ctx context.Context, opts ...Option) []EngineInfo {
	o := newOptions(opts)
	return o.engineInfos(ctx)
}

func (o *options) engineInfos(ctx context.Context) []EngineInfo {
	var infos []EngineInfo
	for _, e := range o.engines {
		if slices.ContainsFunc(infos, func(i EngineInfo) bool { return i.Name == e.Name() }) {
			continue
		}
		used, _ := o.engine(e.Name()) // it may replace a built-in
		infos = append(infos, o.engineInfo(ctx, used))
	}
	return infos
}

// modesOf are those that suit the program.
func modesOf(p engine.Program) []string {
	if p.Modes != nil {
		return slices.Clone(p.Modes)
	}
	return slices.Clone(provisioningModes)
}

func (o *options) engineInfo(ctx context.Context, e Engine) EngineInfo {
	program := programOf(e, ProvisionConfig{})
	info := EngineInfo{Name: e.Name(), Command: program.Command, Modes: modesOf(program), Model: program.Model, Port: program.Port}
	sample := ProvisionConfig{Engine: e.Name(), Port: 8081, Model: ModelConfig{ID: "/model"}, GPU: GPUNone}
	if spec, err := launchOf(e, sample.WithDefaults(), engine.Host{}); err == nil { // else the configuration decides it
		info.Grace = Duration(spec.Grace)
		info.Endpoints = Endpoints{Health: spec.Health, Version: spec.Version.Path}
		if spec.Metrics != nil {
			info.Endpoints.Metrics = spec.Metrics.Path
		}
		if spec.Answer != nil {
			info.Endpoints.Answer = spec.Answer.Path
		}
	}
	if program.Command == "" {
		return info
	}
	path, err := wanted(ProvisionConfig{}, program, o.searchPath()).Find()
	if err != nil {
		info.Problem = err.Error()
		return info
	}
	info.Binary = path
	program.HelpArgs = nil // nobody asks for its flags, and vLLM takes 17 s to tell them
	binary, err := o.inspector().Inspect(ctx, path, program, nil)
	if err != nil {
		info.Problem = err.Error()
	}
	info.Version = binary.Version
	return info
}
