package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// offloadGrowth is how much more of a device must be in use for it to count as used by an engine. A CUDA context
// alone takes more; a desktop's windows come and go by less, and so does what an engine holds of a GPU that it only lists.
const offloadGrowth = 32 << 20

// initialPIDNamespace is how /proc/self/ns/pid reads outside of any container (PROC_PID_INIT_INO of the kernel).
const initialPIDNamespace = "pid:[4026531836]"

// errForeignPIDs says that the ids that the driver reports may be those of another PID namespace.
var errForeignPIDs = errors.New("this is a container, where the driver may report other process ids")

// Processes asks d for the GPU memory of the processes pids. The error says why a process that is not listed, or listed
// with 0 bytes, may hold memory all the same.
func Processes(d Driver, pids []int) ([]Holding, error) {
	held, err := d.Processes(pids)
	if err != nil {
		return held, err
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initialPIDNamespace {
		return held, errForeignPIDs
	}
	return held, nil
}

// Words find what an engine says of its use of GPUs. nil means that it does not say it.
type Words struct {
	Fallback *regexp.Regexp // that it has no GPU, and runs on the CPU
	Buffers  *regexp.Regexp // how many "mib" of the model's weights it has put on a "device"
	Devices  *regexp.Regexp // which "device" is at which address "pci", and its "name"
	Layers   *regexp.Regexp // how many layers it says that it has "used" a GPU for, of a "total"
}

// Evidence is what there is to tell whether an engine uses its GPUs.
type Evidence struct {
	Words
	Log     []string  // what the engine said
	PIDs    []int     // its process tree
	Held    []Holding // what Processes returned
	HeldErr error
	Before  []Device // the replica's GPUs before the start
	After   []Device // and now; others may be among them
	// Proven says that Prove has found a proof before. Its log may have been cut and neighbours may have come and gone since, so
	// that nothing to be seen is no doubt; what speaks against it is one.
	Proven bool
}

// ByDriver reports whether the GPUs are those of drivers, which should then be there: others are known by the engine alone.
func (e Evidence) ByDriver() bool {
	return slices.ContainsFunc(e.Before, func(d Device) bool { return vendor(d) != "" })
}

// ofNVIDIA reports whether a GPU of NVIDIA is among the replica's.
func (e Evidence) ofNVIDIA() bool {
	return slices.ContainsFunc(e.Before, func(d Device) bool { return vendor(d) == engine.VendorNVIDIA })
}

// Prove tells whether a ready engine really runs on the GPUs that it was given. It is for replicas whose policy is Required:
// an engine that finds no GPU warns and serves from the CPU, many times slower. The first that can tell decides: the bytes
// that the engine says it has put on each device; the driver's and the kernel's account of its processes; its own count of
// layers, which llama-server also prints when flags have put them all on the CPU; growth of the devices. by says which it
// was, for people; "" where nothing but an earlier proof tells. The error is an *Error.
func (e Evidence) Prove() (by string, err error) {
	if by, err, told := e.weights(); told {
		return by, err
	}
	if line, ok := e.FellBack(); ok {
		return "", OnCPU(fmt.Errorf("the engine fell back to the CPU: %q", tail.Cut(line)))
	}
	used, line, reported := reportedLayers(e.Layers, e.Log)
	if reported && used == 0 {
		return "", OnCPU(fmt.Errorf("the engine put nothing on the GPU: %q", tail.Cut(line)))
	}
	held, listed := e.held()
	switch {
	case held != "":
		return held, nil
	case reported:
		return fmt.Sprintf("it says %q", tail.Cut(line)), nil
	// NVIDIA's driver names every holder of memory, so that a tree that it does not name holds none, unless it cannot see
	// this tree: an error, no process at all (WSL), or a process without a number. Growth of a device is weaker, as
	// another process may be what grew, so that it counts only then.
	case e.HeldErr == nil && len(e.Held) > 0 && !listed && e.ofNVIDIA():
		return "", OnCPU(errors.New("the engine is ready but none of its processes holds GPU memory"))
	case e.Proven:
		return "", nil
	}
	if g, grown := grownMost(e.Before, e.After); grown > 0 {
		return fmt.Sprintf("%d MiB more of GPU %s are in use", grown>>20, Label(g)), nil
	}
	if e.HeldErr == nil {
		return "", OnCPU(errors.New("the engine is ready but no GPU memory is in use by it"))
	}
	return "", &Error{
		Err: fmt.Errorf("cannot prove that the engine uses the GPU: it reported no weights and no layers on one, %s, "+
			"and the driver could not tell: %w", e.ungrown(), e.HeldErr),
		Advice: `make the engine log what it offloads (llama-server: "-lv 4"), or ` + OtherPolicies,
	}
}

// ungrown says why growth of memory proves nothing.
func (e Evidence) ungrown() string {
	if !slices.ContainsFunc(e.Before, func(d Device) bool { return d.MemoryFree.Known() && !d.Unified }) && len(e.Before) > 0 {
		return "how much of its GPUs' memory is in use is not known"
	}
	return "its GPUs' memory did not grow"
}

// weights judges by the engine's account of bytes, where it gives one.
func (e Evidence) weights() (by string, err error, told bool) {
	if e.Buffers == nil {
		return "", nil, false
	}
	on, devices := map[string]float64{}, []string{}
	for _, m := range matches(e.Buffers, e.Log) {
		mib, err := strconv.ParseFloat(m["mib"], 64)
		if err != nil || m["device"] == "" {
			continue
		}
		if _, seen := on[m["device"]]; !seen {
			devices = append(devices, m["device"])
		}
		on[m["device"]] += mib
	}
	if len(devices) == 0 {
		return "", nil, false
	}
	var where, proof []string
	for _, d := range devices {
		where = append(where, fmt.Sprintf("%.2f MiB in %s", on[d], d))
		if on[d] <= 0 || ofHost(d) {
			continue
		}
		at, wrong := e.place(d)
		if wrong != nil {
			return "", wrong, true
		}
		proof = append(proof, fmt.Sprintf("%.0f MiB of weights on %s%s", on[d], d, at))
	}
	if len(proof) == 0 {
		return "", OnCPU(fmt.Errorf("the engine put no weights on a GPU: it has %s", strings.Join(where, ", "))), true
	}
	return strings.Join(proof, ", "), nil, true
}

// ofHost reports whether a buffer lies in main memory: "CPU", "CPU_Mapped", "CPU_REPACK", "CUDA_Host" and the like, or in
// another machine's, by RPC.
func ofHost(buffer string) bool {
	return strings.HasPrefix(buffer, "CPU") || strings.HasSuffix(buffer, "_Host") || strings.HasPrefix(buffer, remote) ||
		slices.Contains([]string{"BLAS", "AMX"}, buffer)
}

// place says which device of the node a name of the engine's is, and fails where that is none of the replica's.
func (e Evidence) place(name string) (at string, wrong error) {
	for _, m := range matches(e.Devices, e.Log) {
		address := PCIAddress(m["pci"])
		if m["device"] != name || address == "" {
			continue
		}
		if i := slices.IndexFunc(e.Before, func(d Device) bool { return PCIAddress(d.PCIBusID) == address }); i >= 0 {
			return " (" + Label(e.Before[i]) + ")", nil
		}
		if !slices.ContainsFunc(e.Before, func(d Device) bool { return d.PCIBusID == "" }) {
			return "", &Error{
				Err: fmt.Errorf("the engine put weights on %s (%s) at %s, which is none of the GPUs of this replica: %s",
					name, m["name"], address, labels(e.Before)),
				Advice: `name the device that is meant under "devices", or set "gpu: unmanaged" to choose by flags`,
			}
		}
		return " at " + address, nil
	}
	return "", nil
}

// held is what the process tree holds of the replica's GPUs, for people; "" for nothing that counts. listed tells whether
// one of its processes was named at all.
func (e Evidence) held() (what string, listed bool) {
	for _, d := range e.Before {
		var sum uint64
		for _, h := range e.Held {
			if slices.Contains(e.PIDs, h.PID) && h.of(d) {
				sum, listed = sum+h.Bytes, true
			}
		}
		least := uint64(1) // NVIDIA's driver counts who computes
		if vendor(d) != engine.VendorNVIDIA {
			least = offloadGrowth
		}
		if sum >= least {
			return fmt.Sprintf("its processes hold %d MiB of GPU %s", sum>>20, Label(d)), true
		}
	}
	return "", listed
}

// FellBack is the line in which the engine says that it has fallen back to the CPU.
func (e Evidence) FellBack() (line string, ok bool) { return firstMatch(e.Fallback, e.Log) }

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
	if pattern == nil || pattern.SubexpIndex("used") < 0 || pattern.SubexpIndex("total") < 0 {
		return 0, "", false
	}
	for _, m := range matches(pattern, log) {
		n, err1 := strconv.Atoi(m["used"])
		total, err2 := strconv.Atoi(m["total"])
		if err1 != nil || err2 != nil || total <= 0 {
			continue // no model has no layers: this is not the report
		}
		if !ok || n > used {
			used, line, ok = n, m[""], true
		}
	}
	return used, line, ok
}

// matches are the submatches by name in each line that the pattern finds; "" is the line.
func matches(pattern *regexp.Regexp, log []string) (all []map[string]string) {
	if pattern == nil {
		return nil
	}
	for _, line := range log {
		m := pattern.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		named := map[string]string{"": line}
		for i, name := range pattern.SubexpNames() {
			if name != "" {
				named[name] = cmp.Or(m[i], named[name])
			}
		}
		all = append(all, named)
	}
	return all
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

// grownMost is the device of which the most more is in use than before; 0 where that is too little to count. Main memory, in
// which some work, grows by everybody's doing.
func grownMost(before, after []Device) (most Device, grown engine.Bytes) {
	for _, b := range before {
		for _, a := range after {
			if a.ID() != b.ID() || a.ID() == "" || !a.MemoryFree.Known() || !b.MemoryFree.Known() || b.Unified {
				continue
			}
			if more := b.MemoryFree - a.MemoryFree; more >= offloadGrowth && more > grown {
				most, grown = b, more
			}
		}
	}
	return most, grown
}
