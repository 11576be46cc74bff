package provisioner

import (
	"encoding/json"
	"regexp"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/state"
)

// readSchema1 takes over what schema 1 wrote under the names that the fields of LaunchSpec had in Go. Those of one word are
// read anyway, since encoding/json takes no account of upper case.
func (r *record) readSchema1(data []byte) error {
	var old struct {
		Launch struct {
			Spec struct {
				KeyEnv, NoGPU                         string
				HealthTakes, Grace, LoadGrace         time.Duration
				DrainsItself, MustAnswer, KillsItself bool
			} `json:"spec"`
		} `json:"launch"`
	}
	if err := json.Unmarshal(data, &old); err != nil {
		return err
	}
	was, spec := old.Launch.Spec, &r.Launch.Spec
	spec.KeyEnv, spec.HealthTakes, spec.Grace, spec.LoadGrace = was.KeyEnv, was.HealthTakes, was.Grace, was.LoadGrace
	spec.DrainsItself, spec.MustAnswer, spec.KillsItself = was.DrainsItself, was.MustAnswer, was.KillsItself
	if was.NoGPU != "" {
		var err error
		if spec.NoGPU, err = regexp.Compile(was.NoGPU); err != nil {
			return err
		}
	}
	r.Schema = state.RecordSchema
	return nil
}
