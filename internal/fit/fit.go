// Package fit estimates whether a model fits into the memory that is free, beside what others are going to take of it, and
// says what would fit. It also chooses the GPUs that are enough.
//
// The provisioner calls it before a start, with the launches of the other replicas as plain values. It reads no state and
// no configuration, and promises nothing: how much an engine takes is the engine's matter, and an estimate is one.
package fit

import (
	"cmp"
	"os"
	"slices"

	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/report"
)

// Lacking is the needs that are not met.
func Lacking(needs []report.MemoryNeed) []report.MemoryNeed {
	return slices.DeleteFunc(slices.Clone(needs), report.MemoryNeed.Fits)
}

// Run is what the memory of a launch depends on beside the model. Its Shares may be left out: then they go by free memory.
type Run struct {
	gguf.Settings
	LeastContext int      // what the engine shrinks the context to, if need be, where memory lacks; 0 means that it does not
	Fits         bool     // where the GPUs have no room for all of it, the engine itself leaves some on the host
	Beside       []string // files that are loaded, too
	Remedies     Remedies
}

// Remedies are flags, as a user writes them, with which an engine needs less memory. "" stands for a flag that it lacks.
type Remedies struct {
	Context string // takes the tokens of context over all slots
	Layers  string // takes the number of layers on GPUs
	Experts string // takes the number of layers, from the first, whose experts stay in main memory
}

// Check estimates the memory of launches of one model. A nil Check knows nothing, and tells nothing.
type Check struct {
	Model    *gguf.Model
	File     File   // of the model
	HostFree uint64 // 0 when it is not known: then nothing is compared
	Claims
}

// Needs estimates one launch, and where it lacks memory, the least that the engine can do with. It is nil where the engine
// finds room by itself.
func (c *Check) Needs(run *Run, gpus []gpu.Device) []report.MemoryNeed {
	if c == nil || run == nil {
		return nil
	}
	least := c.least(*run, gpus)
	needs := c.estimate(&least, gpus)
	if run.Fits && len(Lacking(needs)) > 0 {
		return nil // how much it leaves where cannot be told
	}
	return needs
}

// least is the launch as the engine makes it where it would lack memory else.
func (c *Check) least(run Run, gpus []gpu.Device) Run {
	if run.LeastContext > 0 && len(Lacking(c.estimate(&run, gpus))) > 0 {
		run.Context = run.LeastContext
	}
	return run
}

// estimate is the memory of one launch as it is configured.
func (c *Check) estimate(run *Run, gpus []gpu.Device) []report.MemoryNeed {
	if c == nil || run == nil {
		return nil
	}
	need, known := c.Model.Estimate(c.settings(run, gpus))
	if !known {
		return nil
	}
	var all []report.MemoryNeed
	for i, g := range gpus {
		free, known := c.free(g)
		switch {
		case need.GPUs[i] == 0:
		case g.Unified: // it is main memory
			need.Host += need.GPUs[i]
		case known:
			all = append(all, report.MemoryNeed{GPU: g.ID(), Label: "GPU " + gpu.Number(g), Need: need.GPUs[i], Free: free, Whole: !g.MemoryFree.Known()})
		}
	}
	if c.HostFree > 0 {
		taken := c.Taken[""]
		for file, bytes := range c.Mapped {
			if file == c.File { // what this launch needs of it, others have mapped already
				bytes -= min(bytes, need.Mapped)
			}
			taken += bytes
		}
		all = append(all, report.MemoryNeed{Label: "main memory", Need: need.Host, Mapped: need.Mapped, Free: c.HostFree - min(c.HostFree, taken)})
	}
	return all
}

func (c *Check) settings(run *Run, gpus []gpu.Device) gguf.Settings {
	s := run.Settings
	for _, path := range run.Beside {
		if info, err := os.Stat(path); err == nil {
			s.BesideBytes += uint64(info.Size())
		}
	}
	if len(s.Shares) != len(gpus) { // llama-server divides by free memory
		s.Shares = nil
		for _, g := range gpus {
			free, _ := c.free(g)
			s.Shares = append(s.Shares, float64(free))
		}
	}
	return s
}

// free is what a launch can have of a GPU at most: where nobody tells what is in use, that is all of it. It is not known where
// nobody tells that either.
func (c *Check) free(g gpu.Device) (bytes uint64, known bool) {
	free := g.MemoryFree
	if !free.Known() {
		free = g.MemoryTotal
	}
	if !free.Known() {
		return 0, false
	}
	return uint64(free) - min(uint64(free), c.Taken[g.ID()]), true
}

// Fewest chooses as few of the GPUs as have room, those with the most free memory first, and as many
// as the flags ask for. describe tells what the launch would be on some of them, and
// how many it asks for. Where no number of them is enough, it is
// all of them; where the engine's need cannot be told, those with the most free memory.
func (c *Check) Fewest(gpus []gpu.Device, describe func([]gpu.Device) (run *Run, asked int, err error)) ([]gpu.Device, error) {
	free := func(g gpu.Device) uint64 {
		if c == nil {
			c = &Check{}
		}
		bytes, _ := c.free(g)
		return bytes
	}
	byFree := slices.SortedStableFunc(slices.Values(gpus), func(a, b gpu.Device) int { return cmp.Compare(free(b), free(a)) })
	for n := range byFree {
		some := slices.SortedFunc(slices.Values(byFree[:n+1]), func(a, b gpu.Device) int { return cmp.Compare(a.Index, b.Index) })
		run, asked, err := describe(some)
		if err != nil {
			return nil, err
		}
		if n+1 < asked {
			continue
		}
		if c == nil || run == nil || len(Lacking(c.estimate(run, some))) == 0 {
			return some, nil
		}
	}
	return gpus, nil
}
