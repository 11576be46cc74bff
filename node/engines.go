package node

import (
	"context"
	"os"
	"path/filepath"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Engine is what this host has of an engine, and how the engine is run.
type Engine struct {
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
	Grace settings.Duration `json:"grace,omitempty"`
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
func Engines(ctx context.Context, opts ...provisioner.Option) []Engine {
	known := provisioner.Engines(opts...)
	engines := make([]Engine, len(known))
	for i, e := range known {
		engines[i] = look(ctx, e.Name(), opts)
	}
	return engines
}

func look(ctx context.Context, name string, opts []provisioner.Option) Engine {
	sample := provisioner.ProvisionConfig{
		Engine: name, Port: 8081, Model: settings.Model{ID: "/model"}, GPU: engine.GPUNone,
	}
	program, spec, err := sample.Describe(opts...)
	found := Engine{Name: name, Command: program.Command, Modes: program.Modes, Model: program.Model, Port: program.Port}
	if err == nil { // else the configuration decides it
		found.Grace = settings.Duration(spec.Grace)
		found.Endpoints = Endpoints{Health: spec.Health, Version: spec.Version.Path}
		if spec.Metrics != nil {
			found.Endpoints.Metrics = spec.Metrics.Path
		}
		if spec.Answer != nil {
			found.Endpoints.Answer = spec.Answer.Path
		}
	}
	if program.Command == "" {
		return found
	}
	wanted := binary.Wanted{Name: program.Command, Path: os.Getenv("PATH"), Key: "provisioning.binary.path"}
	if p, ok := sample.SuggestedProvisioning(opts...); ok {
		wanted.Else = p.Line()
	}
	path, err := wanted.Find()
	if err != nil {
		found.Problem = err.Error()
		return found
	}
	found.Binary = path
	program.HelpArgs = nil // nobody asks for its flags, and vLLM takes 17 s to tell them
	var inspector binary.Inspector
	if dir := provisioner.CacheDir(opts...); dir != "" {
		inspector.Dir = filepath.Join(dir, "binaries")
	}
	known, err := inspector.Inspect(ctx, path, program, nil)
	if err != nil {
		found.Problem = err.Error()
	}
	found.Version = known.Version
	return found
}
