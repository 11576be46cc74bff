package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// ErrNoMemory is wrapped by the [StartError] of a replica whose model does not fit into the memory that is free, under
// "fit: require".
var ErrNoMemory = errors.New("not enough memory")

// MemoryNeed is an estimate of what a launch needs of one kind of memory, beside what is free of it.
type MemoryNeed struct {
	// GPU is the UUID of the GPU whose memory it is; "" means main memory.
	GPU string `json:"gpu,omitempty"`
	// Label is the same for people, such as "GPU 0".
	Label string `json:"label"`
	// Need is the estimate in bytes.
	Need uint64 `json:"need"`
	// Mapped is the part of Need that is the model's file, which replicas that map the same one share.
	Mapped uint64 `json:"mapped,omitempty"`
	// Free is what is free in bytes, less what other replicas have mapped, and what those that are still loading will take.
	Free uint64 `json:"free"`
}

// Fits reports whether there is enough.
func (m MemoryNeed) Fits() bool { return m.Need <= m.Free }

// String returns the numbers, such as "GPU 0 needs 5.2 GiB and has 3.1 GiB free".
func (m MemoryNeed) String() string {
	return fmt.Sprintf("%s needs %s and has %s free", m.Label, gibibytes(m.Need), gibibytes(m.Free))
}

func gibibytes(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", (n+1<<19)>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// lacking is the needs that are not met.
func lacking(needs []MemoryNeed) []MemoryNeed {
	return slices.DeleteFunc(slices.Clone(needs), MemoryNeed.Fits)
}

// memoryError says that a model does not fit.
type memoryError struct {
	lacking []MemoryNeed
	spec    engine.LaunchSpec // with the advice on this launch
}

func (e *memoryError) Error() string {
	var all []string
	for _, m := range e.lacking {
		all = append(all, m.String())
	}
	return fmt.Sprintf("%v, by estimate: %s", ErrNoMemory, strings.Join(all, "; "))
}
func (e *memoryError) Unwrap() error { return ErrNoMemory }

// cause is that of an engine that would die of it.
func (e *memoryError) cause() engine.Cause {
	if e.lacking[0].GPU != "" {
		return engine.CauseOOMGPU
	}
	return engine.CauseOOMHost
}

func (e *memoryError) advice() string {
	return cmp.Or(e.spec.Advice[e.cause()], adviceFor(e.cause())) + `; "fit: warn" tries all the same`
}

// memoryCheck estimates the memory of launches and knows what is free.
type memoryCheck struct {
	model    *gguf.Model
	file     fileID // of the model
	hostFree uint64 // 0 when it is not known
	claims
}

// claims are what other replicas have, or are going to have, of memory that counts as free.
type claims struct {
	taken  map[string]uint64 // by GPU, "" for main memory: what replicas that are loading are still going to take
	mapped map[fileID]uint64 // files in main memory; the kernel calls their pages available, whoever maps them
}

// fileID tells a file by what it is on its disk, or by its path where that is unknown.
type fileID struct {
	path     string
	dev, ino uint64
}

func fileIDOf(path string) fileID {
	info, err := os.Stat(path)
	if err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return fileID{dev: uint64(st.Dev), ino: st.Ino} //nolint:unconvert // it is another type on other systems
		}
	}
	return fileID{path: path}
}

// memoryCheck looks at the machine and the replicas that are loading. It is nil when the engine's memory cannot be
// estimated, as the model is not here or none of GGUF, or nobody wants to know.
func (o *options) memoryCheck(ctx context.Context, cfg ProvisionConfig, prepared Prepared, driver gpu.Driver) *memoryCheck {
	if prepared.gguf == nil || cfg.Fit == "off" && !cfg.Devices.auto() {
		return nil
	}
	return &memoryCheck{
		model: prepared.gguf, file: fileIDOf(prepared.ModelPath), hostFree: freeMemory(), claims: o.claims(ctx, cfg, driver),
	}
}

// freeMemory is how much main memory can be had: by the machine, and by the limits of this process's cgroups, in which the
// engines are, too. It is 0 when that is not known; then nothing is compared.
func freeMemory() uint64 {
	free, err := procfs.MemoryAvailable()
	if left, limited := cgroup.MemoryLeft(); limited && (err != nil || left < free) {
		return max(left, 1)
	}
	return free
}

// claims are those of the replicas of a state directory beside cfg.
func (o *options) claims(ctx context.Context, cfg ProvisionConfig, driver gpu.Driver) claims {
	c := claims{map[string]uint64{}, map[fileID]uint64{}}
	stems, err := state.List(cfg.StateDir, state.RecordName)
	if err != nil {
		return c // there is none yet
	}
	var held map[int]uint64 // asked for once, and only where it matters
	for _, stem := range stems {
		files, err := filesOf(cfg.StateDir, stem)
		if err != nil || stem == cfg.fileStem() {
			continue
		}
		rec, err := files.readRecord()
		if err != nil || rec.State.Final() || !o.lives(ctx, files, rec) {
			continue
		}
		loading := (rec.State == StateStarting || rec.State == StatePreparing) && !access.Exists(files.Handoff())
		for _, m := range rec.Launch.Memory {
			if m.Mapped > 0 {
				file := fileIDOf(rec.Launch.ModelPath)
				c.mapped[file] = max(c.mapped[file], m.Mapped)
			}
			if !loading {
				continue
			}
			var has uint64
			if m.GPU == "" {
				m.Need -= min(m.Need, m.Mapped)
				if s, err := procfs.ReadStat(rec.Process.PID); err == nil {
					has = uint64(s.RSS())
					has -= min(has, m.Mapped) // the file is read first
				}
			} else {
				if held == nil {
					held, _ = driver.ProcessMemory()
				}
				has = held[rec.Process.PID] / uint64(max(1, len(rec.Launch.GPUs))) // the driver tells the sum over all GPUs
			}
			c.taken[m.GPU] += m.Need - min(m.Need, has)
		}
	}
	return c
}

// lives reports whether a launch has not ended while nobody was there to take note.
func (o *options) lives(ctx context.Context, files replicaFiles, rec record) bool {
	if state.Locked(files.LockPath()) {
		return true
	}
	if rec.Launch.Mode != modeContainer || rec.State == StatePreparing {
		return false // a container holds no lock, but its start does
	}
	inst, err := o.find(ctx, files, rec)
	if err != nil {
		return true // the runtime cannot be asked: rather too little memory than too much
	}
	defer inst.Release()
	return !inst.Exited()
}

// needs estimates one launch, and where it lacks memory, the least that the engine can do with. It is nil where the engine
// finds room by itself.
func (c *memoryCheck) needs(run *engine.GGUFRun, gpus []engine.GPU) []MemoryNeed {
	if c == nil || run == nil {
		return nil
	}
	least := c.least(*run, gpus)
	needs := c.estimate(&least, gpus)
	if run.Fits && len(lacking(needs)) > 0 {
		return nil // how much it leaves where cannot be told
	}
	return needs
}

// least is the launch as the engine makes it where it would lack memory else.
func (c *memoryCheck) least(run engine.GGUFRun, gpus []engine.GPU) engine.GGUFRun {
	if run.LeastContext > 0 && len(lacking(c.estimate(&run, gpus))) > 0 {
		run.Context = run.LeastContext
	}
	return run
}

// estimate is the memory of one launch as it is configured.
func (c *memoryCheck) estimate(run *engine.GGUFRun, gpus []engine.GPU) []MemoryNeed {
	if c == nil || run == nil {
		return nil
	}
	need, known := c.model.Estimate(c.settings(run, gpus))
	if !known {
		return nil
	}
	var all []MemoryNeed
	for i, g := range gpus {
		if need.GPUs[i] > 0 {
			all = append(all, MemoryNeed{GPU: g.UUID, Label: "GPU " + fmt.Sprint(g.Index), Need: need.GPUs[i], Free: c.free(g)})
		}
	}
	if c.hostFree > 0 {
		taken := c.taken[""]
		for file, bytes := range c.mapped {
			if file == c.file { // what this launch needs of it, others have mapped already
				bytes -= min(bytes, need.Mapped)
			}
			taken += bytes
		}
		all = append(all, MemoryNeed{Label: "main memory", Need: need.Host, Mapped: need.Mapped, Free: c.hostFree - min(c.hostFree, taken)})
	}
	return all
}

func (c *memoryCheck) settings(run *engine.GGUFRun, gpus []engine.GPU) gguf.Settings {
	s := gguf.Settings{
		Context: run.Context, Slots: run.Slots, Batch: run.Batch, MicroBatch: run.MicroBatch,
		KeyType: run.KeyType, ValueType: run.ValueType, NoFlash: run.NoFlash, KVOnHost: run.KVOnHost, FullSWA: run.FullSWA,
		Layers: run.Layers, Shares: run.Shares, Split: run.Split, MainGPU: run.MainGPU, Copied: run.Copied, NoRepack: run.NoRepack,
		OnHost: run.OnHost,
	}
	for _, path := range run.Beside {
		if info, err := os.Stat(path); err == nil {
			s.BesideBytes += uint64(info.Size())
		}
	}
	if len(s.Shares) != len(gpus) { // llama-server divides by free memory
		s.Shares = nil
		for _, g := range gpus {
			s.Shares = append(s.Shares, float64(c.free(g)))
		}
	}
	return s
}

func (c *memoryCheck) free(g engine.GPU) uint64 {
	return g.MemoryFree - min(g.MemoryFree, c.taken[g.UUID])
}

// fewest chooses for "devices: auto": as few of the GPUs as have room, those with the most free memory first, and as many
// as the flags ask for. describe tells what the launch would be on some of them. Where no number of them is enough, it is
// all of them; where the engine's need cannot be told, those with the most free memory.
func (c *memoryCheck) fewest(gpus []engine.GPU, describe func([]engine.GPU) (engine.LaunchSpec, error)) ([]engine.GPU, error) {
	free := func(g engine.GPU) uint64 { return g.MemoryFree }
	if c != nil {
		free = c.free
	}
	byFree := slices.SortedStableFunc(slices.Values(gpus), func(a, b engine.GPU) int { return cmp.Compare(free(b), free(a)) })
	for n := range byFree {
		some := slices.SortedFunc(slices.Values(byFree[:n+1]), func(a, b engine.GPU) int { return cmp.Compare(a.Index, b.Index) })
		spec, err := describe(some)
		if err != nil {
			return nil, err
		}
		if n+1 < spec.GPUs {
			continue
		}
		if c == nil || spec.GGUF == nil || len(lacking(c.estimate(spec.GGUF, some))) == 0 {
			return some, nil
		}
	}
	return gpus, nil
}

// reserves reports whether a start must not count on memory that another start counts on at the same time.
func (c ProvisionConfig) reserves() bool { return c.Fit == "require" || c.Devices.auto() }

// reserve keeps other provisioners of the state directory from counting on the same memory until this launch has
// recorded what it takes.
func (f replicaFiles) reserve(ctx context.Context) (release func(), err error) {
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
