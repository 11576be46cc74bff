package gpu

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"

	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// offloadGrowth is how much more of a device must be in use for it to count as used by an engine. A CUDA context
// alone takes more; a desktop's windows come and go by less.
const offloadGrowth = 32 << 20

// initialPIDNamespace is how /proc/self/ns/pid reads outside of any container (PROC_PID_INIT_INO of the kernel).
const initialPIDNamespace = "pid:[4026531836]"

// errForeignPIDs says that the ids that the driver reports may be those of another PID namespace.
var errForeignPIDs = errors.New("this is a container, where the driver may report other process ids")

// ProcessMemory asks d for the GPU memory of each process. The error says why a process that is not listed, or listed
// with 0 bytes, may hold memory all the same.
func ProcessMemory(d Driver) (map[int]uint64, error) {
	memory, err := d.ProcessMemory()
	if err != nil {
		return memory, err
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initialPIDNamespace {
		return memory, errForeignPIDs
	}
	return memory, nil
}

// Evidence is what there is to tell whether an engine uses its GPUs.
type Evidence struct {
	NoGPU     *regexp.Regexp // finds the engine's own words for having fallen back to the CPU; nil means that it has none
	Offload   *regexp.Regexp // finds its own report of layers on a GPU, with the submatches "used" and "total"; nil as well
	Log       []string       // what the engine said
	PIDs      []int          // its process tree
	Memory    map[int]uint64 // what ProcessMemory returned
	MemoryErr error
	Before    []Device // the replica's GPUs before the start
	After     []Device // and now; others may be among them
}

// Prove tells whether a ready engine really runs on the GPUs that it was given. It is for replicas whose policy
// is Required: an engine that finds no GPU warns and serves from the CPU, many times slower. The engine's own report
// decides where there is one; it is missing at llama-server's default verbosity. The error is an *Error.
func (e Evidence) Prove() error {
	if line, ok := e.FellBack(); ok {
		return OnCPU(fmt.Errorf("the engine fell back to the CPU: %q", tail.Cut(line)))
	}
	switch used, line, ok := reportedLayers(e.Offload, e.Log); {
	case ok && used == 0:
		return OnCPU(fmt.Errorf("the engine put nothing on the GPU: %q", tail.Cut(line)))
	case ok:
		return nil
	}

	listed := false
	for _, pid := range e.PIDs {
		used, ok := e.Memory[pid]
		if used > 0 {
			return nil
		}
		listed = listed || ok
	}
	// The driver names every holder of memory, so that a tree that it does not name holds none, unless it cannot see
	// this tree: an error, no process at all (WSL), or a process without a number. Growth of a device is weaker, as
	// another process may be what grew, so that it counts only then.
	if e.MemoryErr == nil && len(e.Memory) > 0 && !listed {
		return OnCPU(errors.New("the engine is ready but none of its processes holds GPU memory"))
	}
	if grown(e.Before, e.After) {
		return nil
	}
	if e.MemoryErr == nil {
		return OnCPU(errors.New("the engine is ready but no GPU memory is in use by it"))
	}
	return &Error{
		Err: fmt.Errorf("cannot prove that the engine uses the GPU: it reported no layers, its GPUs' memory did not grow, "+
			"and the driver could not tell: %w", e.MemoryErr),
		Advice: `make the engine log what it offloads (llama-server: "-lv 4"), or ` + OtherPolicies,
	}
}

// FellBack is the line in which the engine says that it has fallen back to the CPU.
func (e Evidence) FellBack() (line string, ok bool) { return firstMatch(e.NoGPU, e.Log) }

// OnCPU is the error of an engine that runs on the CPU, though it must not.
func OnCPU(err error) *Error {
	return &Error{
		Err:    err,
		Advice: "use an executable that was built for this GPU and its driver, check the flags that place layers, or " + OtherPolicies,
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
func grown(before, after []Device) bool {
	for _, b := range before {
		for _, a := range after {
			if a.UUID == b.UUID && a.UUID != "" && b.MemoryFree >= a.MemoryFree+offloadGrowth {
				return true
			}
		}
	}
	return false
}
