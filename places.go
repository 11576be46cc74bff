package provisioner

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
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
		h, _ := o.hub(cfg) // without HOME there is none
		at.Hub = h.cache
	}
	return at
}

func (o *options) searchPath() string { return cmp.Or(o.places.Path, os.Getenv("PATH")) }

// hub is the hub for a replica.
func (o *options) hub(cfg ProvisionConfig) (hub, error) {
	h, err := newHub(cfg)
	if o.places.Hub != "" {
		h.cache, err = o.places.Hub, nil
	}
	return h, err
}
