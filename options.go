package provisioner

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/engine/sglang"
	"github.com/llama-orch/engine-provisioner/engine/tgi"
	"github.com/llama-orch/engine-provisioner/engine/vllm"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/hooks"
	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/launch"
)

// Option changes how a provisioner works, as opposed to what it runs. Options are given to [New], [LoadConfig] and
// the other constructors.
type Option func(*options)

type options struct {
	engines   []Engine
	launchers []launch.Launcher
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
