package provisioner

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cache"
	"github.com/llama-orch/engine-provisioner/internal/models"
)

// places is where a launch looks things up. It is kept with the launch, since whoever compares with it later may have
// another environment: a shell of another user's, or a service without HOME.
type places struct {
	Path  string `json:"path,omitempty"`  // the folders of executables that are named without one, as PATH has them
	Cache string `json:"cache,omitempty"` // what was built, installed or downloaded
	Hub   string `json:"hub,omitempty"`   // the cache of the Hugging Face hub
}

// placesOf is where a launch of cfg looks.
func (o *options) placesOf(cfg ProvisionConfig) places {
	at := places{Path: o.searchPath(), Cache: o.cache()}
	if dir, err := filepath.Abs(at.Cache); err == nil && at.Cache != "" {
		at.Cache = dir
	}
	if strings.HasPrefix(cfg.Model.ID, "hf:") {
		at.Hub, _ = o.models(cfg).HubFolder() // without HOME there is none
	}
	return at
}

func (o *options) searchPath() string { return cmp.Or(o.places.Path, os.Getenv("PATH")) }

// models finds what a replica serves.
func (o *options) models(cfg ProvisionConfig) models.Finder {
	return models.Finder{Cache: o.cache(), Hub: o.places.Hub, Env: cfg.variable}
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
	s, err := value.Secret.read(c)
	if err != nil {
		return "" // the start tells
	}
	return s.Reveal()
}

// cache is the folder of what can be got again; "" where there is none: a system service of systemd has no HOME.
func (o *options) cache() string {
	if dir := cmp.Or(o.places.Cache, o.cacheDir); dir != "" {
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
	return o.cache()
}

// store is where what is brought here is kept.
func (o *options) store() cache.Cache { return cache.Cache{Dir: o.cache()} }
