package provisioner

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/diagnosis"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
	"github.com/llama-orch/engine-provisioner/internal/fit"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/onelook"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
)

// ErrNoMemory is wrapped by the [StartError] of a replica whose model does not fit into the memory that is free, under
// "fit: require".
var ErrNoMemory = fit.ErrNoMemory

// adviseMemory puts the numbers of the estimate into the advice on a lack of memory, and returns them; "" where nothing
// can be told.
func (p *launchPlan) adviseMemory() string {
	numbers := p.memory.Numbers(fit.RunOf(p.spec.GGUF), p.GPUs)
	if numbers == "" {
		return ""
	}
	advice := map[engine.Cause]string{}
	maps.Copy(advice, p.spec.Advice)
	for _, cause := range []engine.Cause{engine.CauseOOMGPU, engine.CauseOOMHost} {
		advice[cause] = cmp.Or(advice[cause], diagnosis.Advice(cause)) + "; " + numbers
	}
	p.spec.Advice = advice
	return numbers
}

// memoryCheck looks at the machine and the replicas that are loading. It is nil when the engine's memory cannot be
// estimated, as the model is not here or none of GGUF, or nobody wants to know.
func (o *options) memoryCheck(ctx context.Context, cfg ProvisionConfig, prepared Prepared, driver gpu.Driver) *fit.Check {
	if prepared.gguf == nil || cfg.GPU == engine.GPUUnmanaged || cfg.Fit == "off" && !cfg.Devices.Auto() {
		return nil
	}
	held := func() map[int]uint64 {
		memory, _ := driver.Processes(nil)
		return gpu.ByProcess(memory)
	}
	return &fit.Check{
		Model: prepared.gguf, File: fit.FileOf(prepared.ModelPath), HostFree: cgroup.MemoryAvailable(),
		Claims: fit.Claim(o.others(ctx, cfg), held),
	}
}

// fewest chooses for "devices: auto"; see [fit.Check.Fewest].
func fewest(memory *fit.Check, gpus []engine.GPU, describe func([]engine.GPU) (engine.LaunchSpec, error)) ([]engine.GPU, error) {
	return memory.Fewest(gpus, func(some []gpu.Device) (*fit.Run, int, error) {
		spec, err := describe(some)
		return fit.RunOf(spec.GGUF), spec.GPUs, err
	})
}

// others are the launches of the replicas of a state directory beside cfg.
func (o *options) others(ctx context.Context, cfg ProvisionConfig) []fit.Other {
	var company []neighbor
	var err error
	if cfg.reserves() { // somebody is refused for it
		company, err = neighbors(cfg.StateDir, readPeer)
	} else {
		company, err = companies.Of(cfg.StateDir).Get(func() ([]neighbor, error) { return neighbors(cfg.StateDir, rememberedPeer) })
	}
	if err != nil {
		return nil // there is none yet
	}
	var others []fit.Other
	for _, n := range company {
		if n.files.Stem == cfg.fileStem() || !n.locked && !o.lives(ctx, n.files, n.peer) {
			continue
		}
		other := fit.Other{Model: n.Launch.ModelPath, PID: n.Process.PID, GPUs: len(n.Launch.GPUs), Loading: n.loading, Memory: n.Launch.Memory}
		others = append(others, other)
	}
	return others
}

// neighbor is a launch that takes memory, if it lives.
type neighbor struct {
	*peer
	files   state.Files
	locked  bool // it lives
	loading bool
}

// companies are the looks at state directories: n replicas that start at once have n neighbors each.
var companies onelook.Looks[[]neighbor]

func neighbors(dir string, read func(state.Files) (*peer, error)) ([]neighbor, error) {
	stems, err := state.List(dir, state.RecordName)
	if err != nil {
		return nil, err
	}
	var all []neighbor
	for _, stem := range stems {
		files, err := filesOf(dir, stem)
		if err != nil {
			continue
		}
		rec, err := read(files)
		if err != nil || rec.State.Final() || len(rec.Launch.Memory) == 0 {
			continue
		}
		all = append(all, neighbor{
			peer: rec, files: files, locked: state.Locked(files.LockPath()),
			loading: (rec.State == StateStarting || rec.State == StatePreparing) && !access.Exists(files.Handoff()),
		})
	}
	return all, nil
}

// peer is what a start reads of the records of all others. It must not be changed.
type peer struct {
	State    State   `json:"state"`
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

// peers are kept for all launches of this program: with n replicas that start at once there are n² of them to read.
var peers filestamp.Memo[*peer]

func readPeer(files state.Files) (*peer, error) {
	return state.ReadRecord(files, func(data []byte, _ int) (*peer, state.Head, error) {
		p := new(peer)
		err := json.Unmarshal(data, p)
		return p, state.Head{LaunchID: p.LaunchID, Pool: p.Pool, Replica: p.Replica}, err
	})
}

func rememberedPeer(files state.Files) (*peer, error) {
	return peers.Get(files.Record(), func() (*peer, error) { return readPeer(files) })
}

// lives reports whether a launch whose lock nobody holds has not ended all the same.
func (o *options) lives(ctx context.Context, files state.Files, other *peer) bool {
	if other.Launch.Mode != perform.ModeContainer || other.State == StatePreparing {
		return false // a container holds no lock, but its start does
	}
	rec, err := readRecord(files)
	if err != nil {
		return false
	}
	inst, err := o.find(ctx, files, rec)
	if err != nil {
		return true // the runtime cannot be asked: rather too little memory than too much
	}
	defer inst.Release()
	return !inst.Exited()
}

// reserves reports whether a start must not count on memory that another start counts on at the same time.
func (c ProvisionConfig) reserves() bool { return c.Fit == "require" || c.Devices.Auto() }

// reserveMemory keeps other provisioners of the state directory from counting on the same memory until this launch has
// recorded what it takes.
func reserveMemory(ctx context.Context, f state.Files) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, reservePatience, ErrBusy)
	defer cancel()
	lock, err := state.AwaitLock(ctx, filepath.Join(f.State, "memory.lock"), func() {})
	if err != nil {
		return nil, fmt.Errorf("cannot reserve memory: %w", err)
	}
	return sync.OnceFunc(lock.Release), nil
}

// reservePatience is how long a launch waits for others that reserve memory: each takes milliseconds, but seconds where the
// driver has to wake its GPUs first.
const reservePatience = time.Minute
