package provisioner

import (
	"log/slog"
	"slices"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
)

// Option changes how a provisioner works, as opposed to what it runs. Options are given to [New], [LoadConfig] and
// the other constructors.
type Option func(*options)

type options struct {
	engines  []Engine
	logger   *slog.Logger
	onEvent  func(Event)
	cacheDir string
	gpus     gpuDriver
	grace    time.Duration
	cgroup   func() (cgroup.Base, error) // finds what was delegated
}

func newOptions(opts []Option) options {
	o := options{
		engines: []Engine{llamaCPP{}},
		logger:  slog.New(slog.DiscardHandler),
		onEvent: func(Event) {},
		cgroup:  cgroup.Delegated,
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

// WithLogger sets where the provisioner tells what it does; by default nowhere.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithEventFunc has fn called on every event, in order. fn is called while a launch waits for it, so it must return
// at once and must not call the provisioner back.
func WithEventFunc(fn func(Event)) Option { return func(o *options) { o.onEvent = fn } }

// WithCacheDir sets where facts about executables are kept between runs. The default is engine-provisioner in the
// user's cache folder; where there is none, as without HOME, nothing is kept.
func WithCacheDir(dir string) Option { return func(o *options) { o.cacheDir = dir } }

// WithStopGrace sets the time between SIGTERM and SIGKILL of a launch that [Attach] finds. 0 means the grace that the
// launch was started with.
func WithStopGrace(d time.Duration) Option { return func(o *options) { o.grace = d } }
