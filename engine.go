package provisioner

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/hooks"
	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/settings"
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
		Model: engine.Model{ID: cfg.Model.ID}, Host: cfg.Host, Port: cfg.Port, Expose: cfg.Expose != "",
		Flags: cfg.Flags, EngineDefaults: cfg.Defaults == "engine", Env: plainEnv(cfg), HasKey: cfg.APIKey != nil,
		GPU: cfg.GPU, ReserveMemory: cfg.reserves(),
		DrainTimeout: time.Duration(*cfg.Drain.Timeout), Grace: time.Duration(cfg.Stop.Grace),
	}
	if name, revision, hub := models.HubName(cfg.Model.ID); hub {
		r.Model.Repository, r.Model.Revision = name, revision
	}
	for name, value := range cfg.Env {
		if value.Secret != nil {
			r.Env[name] = ""
		}
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
			Gauges: c.Gauges, Counters: c.Counters, Answer: c.Answer, OpenAI: c.OpenAI, Grace: time.Duration(c.Grace), Aliases: c.Aliases,
		}
	}
	return r
}

// Option changes how a provisioner works, as opposed to what it runs. Options are given to [New], [LoadConfig] and
// the other constructors.
type Option func(*options)

type options struct {
	engines   []Engine
	launchers perform.Launchers
	logger    *slog.Logger
	onEvent   func(Event)
	supply    supply
	cgroup    func() (cgroup.Base, error)                       // finds what was delegated
	space     func(path string) (free, total uint64, err error) // of a file system

	drainHooks []goHook

	Hooks hooks.Hooks // exported for tests of other packages, which have no other way to it
}

func newOptions(opts []Option) options {
	o := options{
		engines: []Engine{llamacpp.Engine{}, vllm.Engine{}, sglang.Engine{}, tgi.Engine{}, custom.Engine{}},
		logger:  slog.New(slog.DiscardHandler),
		onEvent: func(Event) {},
		cgroup:  cgroup.Delegated,
		space:   logcap.Space,
	}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// engine finds an engine by its name; the last one added wins, so that a program can replace a built-in.
func (o *options) engine(name string) (Engine, bool) {
	for _, e := range slices.Backward(o.engines) {
		if e.Name() == name {
			return e, true
		}
	}
	return nil, false
}

// WithEngine adds an engine, or replaces the built-in one of the same name.
func WithEngine(e Engine) Option { return func(o *options) { o.engines = append(o.engines, e) } }

// WithLauncher adds the Launcher of a provisioning mode, or replaces the one of the same mode.
func WithLauncher(l launch.Launcher) Option {
	return func(o *options) { o.launchers = append(o.launchers, l) }
}

// WithLogger sets where the provisioner tells what it does; by default, and with nil, nowhere.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.logger = cmp.Or(l, slog.New(slog.DiscardHandler)) }
}

// WithEventFunc has fn called on every event, in order. fn is called while a launch waits for it, so it must return
// at once and must not call the provisioner back. The last such option counts; nil means nobody.
func WithEventFunc(fn func(Event)) Option {
	return func(o *options) {
		if o.onEvent = fn; fn == nil {
			o.onEvent = func(Event) {}
		}
	}
}

// WithCacheDir sets where facts about executables are kept between runs. The default is engine-provisioner in the
// user's cache folder; where there is none, as without HOME, nothing is kept.
func WithCacheDir(dir string) Option { return func(o *options) { o.supply.dir = dir } }

// WithDrainHook adds something to do before requests in flight are waited for. Hooks run in the order in which they were
// added, before those of the configuration, on every Stop that drains. fn is told the handoff that was removed. It gets
// a context that ends with the drain's timeout, the end of the engine, and a kill; nothing waits for a
// hook longer than that. It must not call the provisioner back.
//
// A hook that fails is noted, and the drain goes on, unless the error wraps [ErrDrainAborted]: then the rest of the drain
// is left out and Stop returns the error when the engine is gone. name stands in notes and errors.
func WithDrainHook(name string, fn func(context.Context, Handoff) error) Option {
	return func(o *options) { o.drainHooks = append(o.drainHooks, goHook{name, fn}) }
}

// SuggestedProvisioning tells how the executable can be had on a host that lacks it: a release that is downloaded, a package that is
// installed, or an image, whichever comes first of those that suit the engine and "gpu". ok is false where that is not known.
// Only Engine and GPU matter, and of opts those that add an engine.
func (c ProvisionConfig) SuggestedProvisioning(opts ...Option) (p settings.Provisioning, ok bool) {
	o := newOptions(opts)
	return o.suggested(c)
}

func (o *options) suggested(cfg ProvisionConfig) (settings.Provisioning, bool) {
	engine, ok := o.engine(cfg.Engine)
	if !ok {
		return settings.Provisioning{}, false
	}
	return obtainable(programOf(engine, cfg))
}

func obtainable(program engine.Program) (settings.Provisioning, bool) {
	switch {
	case program.Release != nil && program.Release.Known != "":
		return settings.Provisioning{Binary: &settings.Binary{Release: program.Release.Known}}, true
	case program.Package != "":
		return settings.Provisioning{Mode: "package", Package: &settings.Package{Requirements: []string{program.Package}}}, true
	case program.Image.Name != "" && program.Image.Tag != "":
		return settings.Provisioning{Mode: perform.ModeContainer}, true
	}
	return settings.Provisioning{}, false
}
