package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// offloadGrowth is how much more of a device must be in use for it to count as used by an engine. A CUDA context
// alone takes more; a desktop's windows come and go by less.
const offloadGrowth = 32 << 20

// initialPIDNamespace is how /proc/self/ns/pid reads outside of any container (PROC_PID_INIT_INO of the kernel).
const initialPIDNamespace = "pid:[4026531836]"

// errForeignPIDs says that the ids that the driver reports may be those of another PID namespace.
var errForeignPIDs = errors.New("this is a container, where the driver may report other process ids")

// processMemory asks d for the GPU memory of each process. The error says why a process that is not listed, or listed
// with 0 bytes, may hold memory all the same.
func processMemory(d gpuDriver) (map[int]uint64, error) {
	memory, err := d.ProcessMemory()
	if err != nil {
		return memory, err
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initialPIDNamespace {
		return memory, errForeignPIDs
	}
	return memory, nil
}

// proveOffload tells whether a ready engine really runs on the GPUs that it was given. It is for replicas whose policy
// is GPURequired: an engine that finds no GPU warns and serves from the CPU, many times slower.
//
// log is what the engine said, pids are its process tree, memory and memErr are what processMemory returned, and before
// and after are the replica's GPUs before the start and now (after may hold others beside). The engine's own report
// decides where there is one; it is missing at llama-server's default verbosity.
func proveOffload(spec LaunchSpec, log []string, pids []int, memory map[int]uint64, memErr error, before, after []GPU) error {
	if line, ok := firstMatch(spec.NoGPU, log); ok {
		return onCPU(fmt.Errorf("the engine fell back to the CPU: %q", tail.Cut(line)))
	}
	switch used, line, ok := reportedLayers(spec.Offload, log); {
	case ok && used == 0:
		return onCPU(fmt.Errorf("the engine put nothing on the GPU: %q", tail.Cut(line)))
	case ok:
		return nil
	}

	listed := false
	for _, pid := range pids {
		used, ok := memory[pid]
		if used > 0 {
			return nil
		}
		listed = listed || ok
	}
	// The driver names every holder of memory, so that a tree that it does not name holds none, unless it cannot see
	// this tree: an error, no process at all (WSL), or a process without a number. Growth of a device is weaker, as
	// another process may be what grew, so that it counts only then.
	if memErr == nil && len(memory) > 0 && !listed {
		return onCPU(errors.New("the engine is ready but none of its processes holds GPU memory"))
	}
	if grown(before, after) {
		return nil
	}
	if memErr == nil {
		return onCPU(errors.New("the engine is ready but no GPU memory is in use by it"))
	}
	return &GPUError{
		Err: fmt.Errorf("cannot prove that the engine uses the GPU: it reported no layers, its GPUs' memory did not grow, "+
			"and the driver could not tell: %w", memErr),
		Advice: `make the engine log what it offloads (llama-server: "-lv 4"), or ` + otherPolicies,
	}
}

func onCPU(err error) *GPUError {
	return &GPUError{
		Err:    err,
		Advice: "use an executable that was built for this GPU and its driver, check the flags that place layers, or " + otherPolicies,
	}
}

// reportedLayers is the engine's own count of what it put on a GPU. An engine may report several models (a draft
// model, a projector); the largest counts, as a small one may well stay on the CPU.
func reportedLayers(pattern *regexp.Regexp, log []string) (used int, line string, ok bool) {
	if pattern == nil {
		return 0, "", false
	}
	iUsed, iTotal := pattern.SubexpIndex("used"), pattern.SubexpIndex("total")
	if iUsed < 0 || iTotal < 0 {
		return 0, "", false
	}
	for _, l := range log {
		m := pattern.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		n, err1 := strconv.Atoi(m[iUsed])
		total, err2 := strconv.Atoi(m[iTotal])
		if err1 != nil || err2 != nil || total <= 0 {
			continue // no model has no layers: this is not the report
		}
		if !ok || n > used {
			used, line, ok = n, l, true
		}
	}
	return used, line, ok
}

func firstMatch(pattern *regexp.Regexp, log []string) (string, bool) {
	if pattern == nil {
		return "", false
	}
	if i := slices.IndexFunc(log, pattern.MatchString); i >= 0 {
		return log[i], true
	}
	return "", false
}

// grown tells whether more of one of the devices is in use than before.
func grown(before, after []GPU) bool {
	for _, b := range before {
		for _, a := range after {
			if a.UUID == b.UUID && a.UUID != "" && b.MemoryFree >= a.MemoryFree+offloadGrowth {
				return true
			}
		}
	}
	return false
}

// gpuMemoryWait is how long the driver gets to give back the memory of an engine that has ended.
const gpuMemoryWait = 30 * time.Second

// errGPUBusy says that memory of a GPU was not given back.
var errGPUBusy = errors.New("the GPU's memory was not given back")

// gpuUse is how the GPUs of a launch stood before it.
type gpuUse struct {
	gpus []GPU
	held map[int]uint64 // by process, as far as the driver tells
}

// awaitGPUMemory returns when the GPUs have as much free memory as before the last launch, less 5 % and what other
// processes have taken since: an engine that starts sooner runs out of memory that nobody uses.
func awaitGPUMemory(ctx context.Context, d gpuDriver, before gpuUse) error {
	if len(before.gpus) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, gpuMemoryWait, errGPUBusy)
	defer cancel()
	for {
		now, err := askDriver(ctx, d.GPUs)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || !slices.ContainsFunc(before.gpus, func(b GPU) bool { return lacks(now, b, 0) }) {
			return nil // a driver that fails is a matter of the start
		}
		held, _ := askDriver(ctx, d.ProcessMemory)
		if taken := before.taken(held); !slices.ContainsFunc(before.gpus, func(b GPU) bool { return lacks(now, b, taken) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// taken is what processes hold now beyond what they held before. One that has ended is not among them.
func (u gpuUse) taken(now map[int]uint64) (bytes uint64) {
	for pid, n := range now {
		bytes += n - min(n, u.held[pid])
	}
	return bytes
}

// lacks reports whether a GPU has less free memory than before, apart from what others have taken.
func lacks(now []GPU, before GPU, taken uint64) bool {
	return slices.ContainsFunc(now, func(g GPU) bool {
		return g.UUID == before.UUID && float64(g.MemoryFree+taken) < 0.95*float64(before.MemoryFree)
	})
}
