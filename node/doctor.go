package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Check is one thing that was looked at on the host.
type Check struct {
	Name   string     `json:"name"` // such as "gpu"
	Level  CheckLevel `json:"level"`
	Detail string     `json:"detail"`        // what was found
	Fix    string     `json:"fix,omitempty"` // what to do about it; "" when nothing has to be done
}

// CheckLevel says how bad what was found is.
type CheckLevel string

// The levels.
const (
	CheckOK      CheckLevel = "ok"
	CheckWarning CheckLevel = "warning" // some configurations do not work, or not as well
	CheckProblem CheckLevel = "problem" // nothing works before it is mended
)

// Diagnose looks at whether this host can run engines with the state directory ("" means .runtime): executables, GPUs,
// the directory, the kernel, and the replicas there. It asks the engines that it finds for their version, and writes
// nothing but one file into the state directory, which it removes at once. Of opts, those matter that add an engine or
// set the cache.
func Diagnose(ctx context.Context, stateDir string, opts ...provisioner.Option) []Check {
	return diagnose(ctx, stateDir, gpu.Node(), opts)
}

func diagnose(ctx context.Context, stateDir string, gpus gpu.Driver, opts []provisioner.Option) []Check {
	d := doctor{opts: opts}
	d.engines(ctx)
	d.gpus(ctx, gpus)
	state, err := state.Dir(stateDir)
	if err != nil {
		d.problem("state directory", err.Error(), "run this in a folder that exists")
	} else {
		d.stateDirectory(state)
		d.filesystem("state directory", state)
	}
	d.filesystem("temporary folder", os.TempDir())
	d.system()
	d.replicas(stateDir)
	return d.checks
}

type doctor struct {
	opts   []provisioner.Option
	checks []Check
}

func (d *doctor) ok(name, format string, args ...any) {
	d.checks = append(d.checks, Check{name, CheckOK, fmt.Sprintf(format, args...), ""})
}

func (d *doctor) warning(name, detail, fix string) {
	d.checks = append(d.checks, Check{name, CheckWarning, detail, fix})
}

func (d *doctor) problem(name, detail, fix string) {
	d.checks = append(d.checks, Check{name, CheckProblem, detail, fix})
}

// engines tells what there is in PATH. An engine that is missing is not told: few hosts have all, and a configuration can
// name another place.
func (d *doctor) engines(ctx context.Context) {
	found, missing, offers := false, []string{}, ""
	for _, e := range Engines(ctx, d.opts...) {
		switch name := "engine " + e.Name; {
		case e.Command == "":
		case e.Binary == "":
			missing = append(missing, e.Command)
			if p, ok := (provisioner.ProvisionConfig{Engine: e.Name}).SuggestedProvisioning(d.opts...); ok {
				offers += fmt.Sprintf("\n%s: %s", e.Name, p.Line())
			}
		case e.Problem != "":
			found = true
			d.problem(name, e.Problem, "repair or replace the executable: it cannot even tell its version")
		default:
			found = true
			d.ok(name, "%s, version %s", e.Binary, orUnknown(e.Version))
		}
	}
	if !found {
		d.warning("engines", "none in PATH: "+strings.Join(missing, ", "),
			`install one, name its executable in "provisioning.binary.path", or have it brought by one of these lines in its pool:`+offers)
	}
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// driverTimeout is more than a driver without persistence mode needs to wake all GPUs of a large node.
const driverTimeout = 30 * time.Second

// gpus lists what drivers and the kernel report. No GPU is a warning, since engines run on the CPU, too.
func (d *doctor) gpus(ctx context.Context, driver gpu.Driver) {
	ctx, cancel := context.WithTimeout(ctx, driverTimeout)
	defer cancel()
	all, err := gpu.List(ctx, driver)
	if err != nil {
		detail, fix := err.Error(), gpu.OtherPolicies
		if e, ok := errors.AsType[*gpu.Error](err); ok {
			detail = e.Err.Error()
			if e.Advice != "" {
				fix = e.Advice + ", or " + gpu.OtherPolicies
			}
		}
		d.warning("gpu", detail, fix)
		return
	}
	for _, g := range all {
		switch name := "gpu " + gpu.Label(g); {
		case g.Problem != "":
			d.problem(name, g.Name+": "+g.Problem, `repair it, or leave it out of "devices"`)
		case g.ComputeProblem != "":
			d.warning(name, fmt.Sprintf("%s, %s; builds for Vulkan can use it, others not: %s", g.Name, memoryOf(g), g.ComputeProblem),
				"mend that, or use a build for Vulkan")
		default:
			d.ok(name, "%s, %s", g.Name, memoryOf(g))
		}
	}
}

// memoryOf says how much memory a GPU has, as far as that is known.
func memoryOf(g engine.GPU) string {
	total, free := "", "unknown"
	if g.MemoryTotal.Known() {
		total = " of " + gib(uint64(g.MemoryTotal))
	}
	if g.MemoryFree.Known() {
		free = gib(uint64(g.MemoryFree))
	}
	switch {
	case g.Unified && g.MemoryFree.Known():
		return "in main memory, of which " + free + " are available"
	case g.Unified:
		return "in main memory"
	case !g.MemoryFree.Known() && total != "":
		return gib(uint64(g.MemoryTotal)) + " of memory, how much is free is not known"
	case !g.MemoryFree.Known():
		return "memory not known"
	}
	return free + total + " free"
}

func gib(bytes uint64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

// stateDirectory checks that the directory is, or can be made, private and writable.
func (d *doctor) stateDirectory(stateDir string) {
	const name = "state directory"
	dir := stateDir
	switch err := state.CheckPrivate(stateDir); {
	case errors.Is(err, fs.ErrNotExist):
		dir = access.Existing(stateDir)
	case err != nil:
		d.problem(name, err.Error(), "")
		return
	}
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		fix := `make it writable or set another "state_dir"`
		if denied := access.Denied(dir, "write"); denied != "" {
			fix = denied + `; run as the owner, or set another "state_dir"`
		}
		d.problem(name, "cannot write to it: "+err.Error(), fix)
		return
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		d.problem(name, "cannot remove a file from it: "+err.Error(), `set another "state_dir"`)
		return
	}
	if dir != stateDir {
		d.ok(name, "%s can be made", stateDir)
		return
	}
	d.ok(name, "%s is writable and private", stateDir)
}

// replicas warns of those that died while nobody watched.
func (d *doctor) replicas(stateDir string) {
	all, err := provisioner.Statuses(stateDir)
	if err != nil {
		fix := "" // it says what to do
		if errors.Is(err, fs.ErrPermission) {
			fix = access.Remedy
		}
		d.problem("replicas", strings.TrimSuffix(err.Error(), "; "+fix), fix)
	}
	for _, s := range all {
		name := fmt.Sprintf("replica %s/%s", s.Pool, s.Replica)
		switch {
		case s.PID != 0:
			d.ok(name, "%s, pid %d, %s", s.State, s.PID, s.URL)
		case s.State == provisioner.StateFailed:
			d.warning(name, strings.TrimSuffix("failed: "+s.Exit, ": "), "look at its log: "+s.Log)
		}
	}
}
