// Package neighbors knows the launches of a state directory that take memory, as their records tell: what a start has to leave
// to others.
//
// Who starts an engine calls it. It reads records and looks at locks; it asks no engine, and what becomes of a launch is nothing
// to it.
package neighbors

import (
	"encoding/json"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/onelook"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// Neighbor is a launch that takes memory, if it lives. It must not be changed.
type Neighbor struct {
	*Record
	Files     state.Files
	Locked    bool // it lives, or is being started
	Published bool // it has a handoff
}

// Record is what a start reads of the records of all others.
type Record struct {
	State    string  `json:"state"`
	LaunchID string  `json:"launch_id"`
	Pool     string  `json:"pool"`
	Replica  string  `json:"replica"`
	Process  proc.ID `json:"process"`
	Launch   struct {
		Mode      string              `json:"provisioning_mode"`
		ModelPath string              `json:"model_path"`
		GPUs      []json.RawMessage   `json:"gpus"`
		Memory    []report.MemoryNeed `json:"memory"`
	} `json:"launch"`
}

// In are those of a state directory, read now. ended tells of a state whether it is that of a launch that is over.
func In(dir string, ended func(state string) bool) ([]Neighbor, error) { return list(dir, ended, read) }

// Seen is In as it was a moment ago at most, with records that are read once for all launches of this program: with n replicas
// that start at once there are n² of them.
func Seen(dir string, ended func(state string) bool) ([]Neighbor, error) {
	return looks.Of(dir).Get(func() ([]Neighbor, error) { return list(dir, ended, remembered) })
}

var (
	looks   onelook.Looks[[]Neighbor]
	records filestamp.Memo[*Record]
)

func list(dir string, ended func(string) bool, read func(state.Files) (*Record, error)) ([]Neighbor, error) {
	stems, err := state.List(dir, state.RecordName)
	if err != nil {
		return nil, err
	}
	root, err := state.Dir(dir)
	if err != nil {
		return nil, err
	}
	var all []Neighbor
	for _, stem := range stems {
		files := state.In(root, stem)
		rec, err := read(files)
		if err != nil || ended(rec.State) || len(rec.Launch.Memory) == 0 {
			continue
		}
		all = append(all, Neighbor{rec, files, state.Locked(files.LockPath()), access.Exists(files.Handoff())})
	}
	return all, nil
}

func read(files state.Files) (*Record, error) {
	return state.ReadRecord(files, func(data []byte, _ int) (*Record, state.Head, error) {
		r := new(Record)
		err := json.Unmarshal(data, r)
		return r, state.Head{LaunchID: r.LaunchID, Pool: r.Pool, Replica: r.Replica}, err
	})
}

func remembered(files state.Files) (*Record, error) {
	return records.Get(files.Record(), func() (*Record, error) { return read(files) })
}
