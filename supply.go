package provisioner

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/acquire"
	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Prepared is what a launch runs: an executable and a model that are on this node.
type Prepared struct {
	Binary    engine.Binary
	ModelPath string // absolute; "" when the engine resolves the reference itself or has no model

	gguf     *gguf.Model // the model's header, when it is on this node and is one
	beside   []models.Companion
	revision string            // of a model that the engine fetches by itself
	files    []filestamp.Stamp // the executable and the model, as they were looked at
}

// decided is what the launch runs from now on: the one that Start is to run is the one that was looked at.
func (p *EngineProvisioner) decided(prepared Prepared) Prepared {
	if p.cfg.contained() {
		return prepared // its runtime alone knows whether the image is still there
	}
	prepared.files = filestamp.Of(append(models.Parts(prepared.ModelPath), prepared.Binary.Path)...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prep = &prepared
	return prepared
}

// decision is what was decided, if that stands.
func (p *EngineProvisioner) decision() (prepared Prepared, stands bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.prep == nil || filestamp.Changed(p.prep.files) != "" {
		return Prepared{}, false
	}
	return *p.prep, true
}

// supply is where a launch gets what it is made of: executables, what is known of them, and models. What is empty, this
// program's environment says.
type supply struct {
	places        // of a recorded launch
	dir    string // of the cache, by WithCacheDir
	api    string // that releases are looked up with; "" is GitHub's
}

// places is where a launch looks things up. It is kept with the launch, since whoever compares with it later may have
// another environment: a shell of another user's, or a service without HOME.
type places struct {
	Path  string `json:"path,omitempty"`  // the folders of executables that are named without one, as PATH has them
	Cache string `json:"cache,omitempty"` // what was built, installed or downloaded
	Hub   string `json:"hub,omitempty"`   // the cache of the Hugging Face hub
}

// of is where a launch of cfg looks.
func (s supply) of(cfg ProvisionConfig) places {
	at := places{Path: s.searchPath(), Cache: s.cache()}
	if dir, err := filepath.Abs(at.Cache); err == nil && at.Cache != "" {
		at.Cache = dir
	}
	if strings.HasPrefix(cfg.Model.ID, "hf:") {
		at.Hub, _ = s.models(cfg).HubFolder() // without HOME there is none
	}
	return at
}

// searchPath is where executables are that are named without a folder.
func (s supply) searchPath() string { return cmp.Or(s.Path, os.Getenv("PATH")) }

// cache is the folder of what can be got again; "" where there is none: a system service of systemd has no HOME.
func (s supply) cache() string {
	if dir := cmp.Or(s.Cache, s.dir); dir != "" {
		return dir
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(user, "engine-provisioner")
}

// CacheDir returns the folder of what can be got again: engines, models of URLs, facts about executables. "" means that there is
// none. Of opts, [WithCacheDir] matters.
func CacheDir(opts ...Option) string {
	o := newOptions(opts)
	return o.supply.cache()
}

// store is where what is brought here is kept.
func (s supply) store() cache.Cache { return cache.Cache{Dir: s.cache()} }

// limitsOf is how slow a download may be.
func limitsOf(c settings.Download) fetch.Limits {
	return fetch.Limits{MinPerMinute: int64(c.MinPerMinute), Timeout: time.Duration(c.Timeout)}
}

// executable is the way by which an engine's executable is had: the one of its mode of provisioning.
func (s supply) executable(cfg ProvisionConfig, program engine.Program) acquire.Way {
	if p := cfg.Provisioning; p.Mode == "source" {
		return acquire.Source{
			Cache: s.store(), Config: acquire.SourceConfig(*p.Source), Dir: cfg.Dir, Command: program.Command, Flags: program.SourceFlags,
			Secrets: cfg.secretVariables(),
		}
	}
	if p := cfg.Provisioning; p.Mode == "package" {
		return acquire.Package{Cache: s.store(), Config: acquire.PackageConfig(*p.Package), Dir: cfg.Dir, Command: program.Command, Secrets: cfg.secretVariables()}
	}
	if b := cfg.Provisioning.Binary; b != nil && (b.URL != "" || b.Release != "") {
		return acquire.Download{
			Cache: s.store(), Config: acquire.BinaryConfig(*b), Command: program.Command, Release: program.Release, GPU: cfg.GPU != engine.GPUNone,
			API: s.api, Limits: limitsOf(cfg.Download),
		}
	}
	return acquire.Local(wanted(cfg, program, s.searchPath()))
}

// wanted is the engine's executable: the configured path, or the engine's usual name in the folders of searchPath.
func wanted(cfg ProvisionConfig, program engine.Program, searchPath string) binary.Wanted {
	w := binary.Wanted{Name: program.Command, Dir: cfg.Dir, Path: searchPath, Key: "provisioning.binary.path"}
	if cfg.Custom != nil {
		w.Key = "custom.command"
	}
	if b := cfg.Provisioning.Binary; b != nil && b.Path != "" {
		w.Name = b.Path
	}
	if p, ok := obtainable(program); ok {
		w.Else = p.Line()
	}
	return w
}

// inspector learns what executables are, and keeps it in the cache where there is one.
func (s supply) inspector(cfg ProvisionConfig) binary.Inspector {
	if dir := s.cache(); dir != "" {
		return binary.Inspector{Dir: filepath.Join(dir, "binaries"), Secrets: cfg.secretVariables()}
	}
	return binary.Inspector{Secrets: cfg.secretVariables()}
}

// models finds what a replica serves.
func (s supply) models(cfg ProvisionConfig) models.Finder {
	return models.Finder{Cache: s.cache(), Hub: s.Hub, Env: cfg.variable, Limits: limitsOf(cfg.Download)}
}

// model is what is asked for of an engine that takes models of a kind.
func (c ProvisionConfig) model(kind engine.ModelKind) models.Request {
	return models.Request{ID: c.Model.ID, SHA256: c.Model.SHA256, Dir: c.Dir, Kind: models.Kind(kind)}
}

// variable is one of the replica's env, or else of this program.
func (c ProvisionConfig) variable(name string) string {
	value, ok := c.Env[name]
	switch {
	case !ok:
		return os.Getenv(name)
	case value.Secret == nil:
		return value.Value
	}
	s, err := readRef(*value.Secret, c)
	if err != nil {
		return "" // the start tells
	}
	return s.Reveal()
}

// Inspect finds out all that can be known of the executable that a launch would run, and keeps it in the cache. Start and Plan do so
// themselves, but for the flags of a Python program: "vllm serve --help=all" takes 7 to 17 s. They check those against what an
// Inspect before them has found, by the version that is installed, and else leave them to the engine. The errors are those of
// Plan.
func (p *EngineProvisioner) Inspect(ctx context.Context) (engine.Binary, error) {
	if err := p.unknown("inspect"); err != nil {
		return engine.Binary{}, err
	}
	program := programOf(p.engine, p.cfg)
	path, pending, err := p.opts.supply.executable(p.cfg, program).Find(ctx)
	if err == nil && pending != "" {
		err = &binary.Error{Err: fmt.Errorf("the executable is not there yet: %s; call Prepare first", pending)}
	}
	if err != nil {
		return engine.Binary{}, p.startErrorIn(ctx, err)
	}
	b, err := p.opts.supply.inspector(p.cfg).Learn(ctx, path, program, plainEnv(p.cfg))
	if err != nil {
		return engine.Binary{}, p.startErrorIn(ctx, err)
	}
	return b, nil
}

// target is what a Launcher reads of cfg.
func target(cfg ProvisionConfig) launch.Target {
	to := launch.Target{Host: cfg.Host, Port: cfg.Port, Env: plainEnv(cfg), Keyed: cfg.APIKey != nil}
	if c := cfg.Provisioning.Container; c != nil {
		to.Container = launch.Container{
			Pull: c.Pull, RuntimeSocket: c.RuntimeSocket, Network: c.Network, Volumes: c.Volumes, Entrypoint: c.Entrypoint,
			ShmSize: int64(c.ShmSize), IPC: c.IPC, User: c.User, GPUDriver: c.GPUDriver,
		}
	}
	return to
}

// targetOf is target with the image of the engine where the configuration names none.
func targetOf(cfg ProvisionConfig, program engine.Program) launch.Target {
	to, c := target(cfg), settings.Container{}
	if cfg.Provisioning.Container != nil {
		c = *cfg.Provisioning.Container
	}
	to.Container.Image = c.Reference(program.Image)
	return to
}

// locate finds what the engine of cfg is run from. pending says what there is to get first.
func (o *options) locate(ctx context.Context, cfg ProvisionConfig, program engine.Program) (b engine.Binary, pending string, err error) {
	if !cfg.contained() {
		path, pending, err := o.supply.executable(cfg, program).Find(ctx)
		if err != nil || pending != "" {
			return engine.Binary{}, pending, err
		}
		b, err = o.supply.inspector(cfg).Inspect(ctx, path, program, plainEnv(cfg))
		return b, "", err
	}
	l, ok := o.launchers.Of(perform.ModeContainer)
	if !ok {
		return engine.Binary{}, "", perform.ErrNoLauncher
	}
	if b, pending, err = l.Locate(ctx, targetOf(cfg, program), program); err != nil || pending != "" {
		return engine.Binary{}, pending, err
	}
	b, err = o.contained(ctx, l, cfg, program, b)
	return b, "", err
}

// fetch is locate that gets what is missing.
func (o *options) fetch(ctx context.Context, cfg ProvisionConfig, program engine.Program, tell listener) (engine.Binary, error) {
	if !cfg.contained() {
		path, err := o.supply.executable(cfg, program).Get(ctx, acquiring(tell))
		if err != nil {
			return engine.Binary{}, err
		}
		return o.supply.inspector(cfg).Inspect(ctx, path, program, plainEnv(cfg))
	}
	l, ok := o.launchers.Of(perform.ModeContainer)
	if !ok {
		return engine.Binary{}, perform.ErrNoLauncher
	}
	b, err := l.Fetch(ctx, targetOf(cfg, program), program, func(p launch.Progress) {
		tell.progress(report.Progress{Step: report.StepDownload, What: p.What, Done: p.Done, Total: p.Total, Rate: p.Rate, Remaining: p.Remaining})
	})
	if err != nil {
		return engine.Binary{}, err
	}
	return o.contained(ctx, l, cfg, program, b)
}

// contained completes the facts about what is in an image. The metadata of a Python distribution cannot be seen from
// outside, and to ask a vLLM costs 17 s: its running server says its version.
func (o *options) contained(ctx context.Context, l launch.Launcher, cfg ProvisionConfig, program engine.Program, b engine.Binary) (engine.Binary, error) {
	if program.Distribution != "" {
		return b, nil
	}
	return o.supply.inspector(cfg).Facts(ctx, b, program, plainEnv(cfg), func(args []string) (string, error) {
		return l.Ask(ctx, targetOf(cfg, program), program, b, args)
	})
}
