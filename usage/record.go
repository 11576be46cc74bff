package usage

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// starting is the state of a record whose engine runs and is not ready, or is; see [Meter.find].
const starting = "starting"

// record is what a launch's record says that is needed to measure it. The rest, most of it patterns, is left unread.
type record struct {
	State     string    `json:"state"`
	LaunchID  string    `json:"launch_id"`
	Model     string    `json:"model"`
	Host      string    `json:"host"`
	Port      int       `json:"port"`
	Dir       string    `json:"dir"`
	Process   proc.ID   `json:"process"`
	Cgroup    string    `json:"cgroup"`
	Log       string    `json:"log"`
	StartedAt time.Time `json:"started_at"`
	Withdrawn bool      `json:"withdrawn"`
	APIKey    *struct {
		FromEnv  string `json:"from_env"`
		FromFile string `json:"from_file"`
	} `json:"api_key"`
	Launch struct {
		ModelPath string            `json:"model_path"`
		Files     []filestamp.Stamp `json:"model_files"`
		GPUs      []struct{}        `json:"gpus"`
		Spec      spec              `json:"spec"`
	} `json:"launch"`
}

// spec is what is needed of the description of a launch.
type spec struct {
	KeyEnv       string            `json:"key_env"`
	KeySeparator string            `json:"key_separator"`
	Asleep       engine.Field      `json:"asleep"`
	MetricsWake  bool              `json:"metrics_wake"`
	Gauges       *engine.Gauges    `json:"gauges"`
	Generated    *engine.Generated `json:"generated"`
}

// readRecord reads the record of a replica; fs.ErrNotExist says that it has never been launched.
func readRecord(f state.Files) (record, error) {
	return state.ReadRecord(f, func(data []byte, _ int) (r record, head state.Head, err error) {
		err = errors.Join(json.Unmarshal(data, &r), json.Unmarshal(data, &head))
		return r, head, err
	})
}

// over reports whether the launch has ended, or has no process yet.
func (r record) over() bool { return state.Head{State: r.State}.Over() || r.Process.PID == 0 }

// modelSize is the size of the model's files; 0 where it is not known.
func (r record) modelSize() (sum int64) {
	for _, f := range r.Launch.Files {
		sum += f.Size
	}
	return sum
}

// modelName is the model for people.
func (r record) modelName() string {
	if path := r.Launch.ModelPath; path != "" {
		return filepath.Base(path)
	}
	return r.Model
}

// key is what the engine is asked with: what it was started with, which stands in its environment, or else what the
// configuration names. Without one, an engine that wants one tells nothing.
func (r record) key() secret.Text {
	if r.APIKey == nil {
		return secret.Text{}
	}
	if name := r.Launch.Spec.KeyEnv; name != "" {
		if text, known := procfs.Env(r.Process.PID, name); known {
			if sep := r.Launch.Spec.KeySeparator; sep != "" {
				text, _, _ = strings.Cut(text, sep)
			}
			return secret.Of(text)
		}
	}
	if r.APIKey.FromEnv != "" {
		key, err := secret.FromEnv(r.APIKey.FromEnv)
		if err == nil {
			return key
		}
		return secret.Text{}
	}
	path := r.APIKey.FromFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.Dir, path)
	}
	if keys, err := secret.KeysFromFile(path); err == nil {
		return keys.First()
	}
	return secret.Text{}
}
