package provisioner

import (
	"errors"
	"slices"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/models"
)

// Engine describes how one kind of inference engine is launched and questioned. Package engine has the words for it, so that
// an engine need not import this package.
//
// An Engine is data: its methods are pure functions that touch no file, network, process or environment. The
// provisioner gathers the facts, asks the Engine for a LaunchSpec, and acts on it. Implementations must be safe for
// concurrent use. Add one of your own with [WithEngine].
type Engine interface {
	// Name is the engine's name in the configuration and in the handoff file, such as "llamacpp".
	Name() string
	// Program says how the executable that the request asks for is found and asked what it is. The zero Request stands for
	// one that says nothing about it.
	Program(engine.Request) engine.Program
	// Launch describes one launch on a host. The zero Host stands for one of which nothing is known yet. Problems of the
	// request come back as an *engine.ConfigError that holds all of them.
	Launch(engine.Request, engine.Host) (engine.LaunchSpec, error)
}

// EngineWithFlags is an Engine that tells how its program writes its command line. [NormalizeFlags] and the
// package importer understand the flags of such engines.
type EngineWithFlags interface {
	Engine
	// Dialect describes the command line. It is always the same, and not to be changed.
	Dialect() *flagline.Dialect
}

// dialect is how an engine writes its command line; nil where nothing is known of that.
func (o *options) dialect(name string) *flagline.Dialect {
	e, _ := o.engine(name)
	if e, ok := e.(EngineWithFlags); ok {
		return e.Dialect()
	}
	return nil
}

// programOf is what an engine says of the executable that cfg asks for.
func programOf(e Engine, cfg ProvisionConfig) engine.Program { return e.Program(requestOf(cfg)) }

// launchOf has an engine describe a launch. What is wrong with the configuration comes back as a *ConfigError.
func launchOf(e Engine, cfg ProvisionConfig, host engine.Host) (engine.LaunchSpec, error) {
	spec, err := e.Launch(requestOf(cfg), host)
	if wrong, ok := errors.AsType[*engine.ConfigError](err); ok {
		problems := make([]Problem, len(wrong.Problems))
		for i, p := range wrong.Problems {
			problems[i] = Problem{Key: p.Key, Message: p.Message}
		}
		err = cfg.configError(problems...)
	}
	return spec, err
}

// Engines are those that "engine" in a configuration can name. Of opts, those matter that add an engine; one that replaces a
// built-in has its place.
func Engines(opts ...Option) []Engine {
	o := newOptions(opts)
	var all []Engine
	for _, e := range o.engines {
		if !slices.ContainsFunc(all, func(b Engine) bool { return b.Name() == e.Name() }) {
			last, _ := o.engine(e.Name())
			all = append(all, last)
		}
	}
	return all
}

// Describe returns what the engine says of its executable, and of a launch on a host of which nothing is known. Of opts,
// those matter that add an engine. Where the launch cannot be described, the program comes
// beside the error. Its Modes are all that there are where the engine says nothing of them.
func (c ProvisionConfig) Describe(opts ...Option) (engine.Program, engine.LaunchSpec, error) {
	o := newOptions(opts)
	e, ok := o.engine(c.Engine)
	if !ok {
		return engine.Program{}, engine.LaunchSpec{}, c.Validate(opts...)
	}
	spec, err := launchOf(e, c, engine.Host{})
	program := programOf(e, c)
	program.Modes = config.ModesOf(program)
	return program, spec, err
}

// requestOf is what engines are told of a configuration.
func requestOf(cfg ProvisionConfig) engine.Request {
	cfg = cfg.WithDefaults()
	r := engine.Request{
		Model: engine.Model{ID: cfg.Model.ID}, Host: cfg.Host, Port: cfg.Port, Expose: cfg.Expose,
		Flags: cfg.Flags, EngineDefaults: cfg.Defaults == "engine", Env: plainEnv(cfg), HasKey: cfg.APIKey != nil,
		GPU: engine.GPUPolicy(cfg.GPU), ReserveMemory: cfg.reserves(),
		DrainTimeout: time.Duration(defaultDrainTimeout), Grace: time.Duration(cfg.Stop.Grace),
	}
	if name, revision, hub := models.HubName(cfg.Model.ID); hub {
		r.Model.Repository, r.Model.Revision = name, revision
	}
	for name, value := range cfg.Env {
		if value.Secret != nil {
			r.Env[name] = ""
		}
	}
	if cfg.Drain.Timeout != nil {
		r.DrainTimeout = time.Duration(*cfg.Drain.Timeout)
	}
	if b := cfg.Provisioning.Binary; b != nil {
		r.Executable, r.Versions = b.Path, append(r.Versions, engine.Version{Name: b.Release, From: "release"})
	}
	if s := cfg.Provisioning.Source; s != nil {
		r.Versions = append(r.Versions, engine.Version{Name: s.Ref, From: "source"})
	}
	if c := cfg.Provisioning.Container; c != nil {
		r.Versions = append(r.Versions, engine.Version{Name: c.Tag, From: "image tag", Image: c.Image})
	}
	if p := cfg.Provisioning.Package; p != nil {
		for _, requirement := range p.Requirements {
			r.Versions = append(r.Versions, engine.Version{Name: requirement, From: "requirement"})
		}
	}
	if c := cfg.Custom; c != nil {
		r.Custom = &engine.Custom{
			Command: c.Command, Env: c.Env, KeyEnv: c.KeyEnv, Health: c.Health, Version: c.Version, Metrics: c.Metrics,
			Gauges: c.Gauges, Counters: c.Counters, Answer: c.Answer, Grace: time.Duration(c.Grace), Aliases: c.Aliases,
		}
	}
	return r
}
