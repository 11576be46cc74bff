package provisioner

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// modeContainer is the provisioning mode of engines that run in containers.
const modeContainer = "container"

// Launcher performs launches of one provisioning mode, as Engine describes them. The processes of this host need none
// to be added; package docker has the one for containers, which keeps the container client out of programs that want
// none. A Launcher must be safe for concurrent use. Add one with [WithLauncher].
type Launcher interface {
	// Mode is the provisioning mode in the configuration, such as "container".
	Mode() string
	// Locate finds what the engine is run from. Where it is not on this node, pending says what Fetch would do, for people.
	Locate(ctx context.Context, cfg ProvisionConfig, program engine.Program) (b engine.Binary, pending string, err error)
	// Fetch gets it onto this node. Of the Binary, Path and Digest are known; the rest is found out by Ask.
	Fetch(ctx context.Context, cfg ProvisionConfig, program engine.Program, tell func(Progress)) (engine.Binary, error)
	// Ask runs a Binary with arguments such as "--version" and returns what it prints on both streams.
	Ask(ctx context.Context, cfg ProvisionConfig, program engine.Program, b engine.Binary, args []string) (output string, err error)
	// Reserve makes an Instance of a launch that is about to begin. It may complete ref with what finds the launch again,
	// and changes nothing on the node: the launch's record is written in between.
	Reserve(cfg ProvisionConfig, ref LaunchRef) (Instance, error)
	// Find takes hold of a launch that this program or an earlier one has begun. An Instance that has exited is what
	// becomes of a launch whose main process is gone; an error says that nobody can tell.
	Find(ctx context.Context, ref LaunchRef) (Instance, error)
}

// performer is the part of a Launcher that the processes of this host have as well.
type performer interface {
	Reserve(cfg ProvisionConfig, ref LaunchRef) (Instance, error)
	Find(ctx context.Context, ref LaunchRef) (Instance, error)
}

// LaunchRef is what finds a launch again, also for a later program.
type LaunchRef struct {
	StateDir  string // absolute; two of them may have replicas of one name
	Pool      string
	Replica   string
	LaunchID  string
	StartedAt time.Time
	Log       string // the file for the engine's output
	TempDir   string // for the engine's temporary files, as the engine sees it
	Runtime   string // of a container: the socket of its runtime

	cgroup   string
	process  proc.ID
	shmNamed []string // see shm.Named
}

// Launch is one launch to be performed.
type Launch struct {
	Config ProvisionConfig // with its defaults
	Spec   engine.LaunchSpec
	Host   engine.Host
	Image  engine.Image // the engine's own
	Args   []string     // the command line after the executable
	Env    []string     // all of the environment; it may hold secrets
	Dir    string       // the working directory
	Grace  time.Duration
	Note   func(string) // tells what is worth knowing and changes nothing

	files launchFiles
}

// Instance is one launch being performed. Its methods are safe for concurrent use once Start or Find has returned.
type Instance interface {
	// Ref is what finds the launch again, as far as it is known by now.
	Ref() LaunchRef
	// Start begins it. When it fails, what Kill and Remove do not find is gone.
	Start(ctx context.Context, l Launch) error
	// PID is the id of the main process on this host; 0 when it is not known.
	PID() int
	// Wait returns nil when the main process has ended, with all its output in the log, or the cause of ctx's end.
	Wait(ctx context.Context) error
	// Exited reports whether the main process has ended, or is not known.
	Exited() bool
	// Signal sends sig to the main process, which may have ended.
	Signal(sig syscall.Signal) error
	// Members lists the living processes.
	Members() ([]Member, error)
	// Observe is Members that remembers what they would leave behind if they were killed.
	Observe() ([]Member, error)
	// Kill sends SIGKILL to all processes and returns how many there were.
	Kill() (int, error)
	// Listens reports whether a process of the launch listens on host and port; known is false when that cannot be seen.
	Listens(host string, port int) (owns, known bool)
	// Exit tells how the main process ended, after it has.
	Exit() Exit
	// Remove removes what is left of a launch all of whose processes have ended.
	Remove() error
	// Release lets go of what runs on. It changes nothing on the node.
	Release()
}

// Member is a living process of a launch.
type Member struct {
	PID    int // on this host; 0 when it is not known
	Name   string
	State  byte          // as in /proc/<pid>/stat
	CPU    time.Duration // used so far
	Memory int64         // resident, in bytes
}

// Exit is how a main process ended. The zero value means that it is not known, as for another's child.
type Exit struct {
	Known  bool
	Code   int    // -1 when a signal ended it
	Signal string // such as "killed"; "" when it exited by itself

	OOM       string // what tells that the kernel killed it for want of memory; "" for nothing
	OOMShared bool   // that may be about another launch
	NotOOM    bool   // whoever counts such kills has counted none
}

func (e Exit) String() string {
	switch {
	case !e.Known:
		return "unknown"
	case e.Signal != "":
		return "signal: " + e.Signal
	default:
		return fmt.Sprintf("code %d", e.Code)
	}
}

// launcher finds a Launcher that was added by its mode; the last one wins.
func (o *options) launcher(mode string) (Launcher, bool) {
	for i := len(o.launchers) - 1; i >= 0; i-- {
		if o.launchers[i].Mode() == mode {
			return o.launchers[i], true
		}
	}
	return nil, false
}

// performer is who performs the launches of a mode.
func (o *options) performer(mode string) (performer, error) {
	if l, ok := o.launcher(mode); ok {
		return l, nil
	}
	if mode == modeContainer {
		return nil, errNoLauncher
	}
	return hostLauncher{o.cgroup}, nil
}

var errNoLauncher = fmt.Errorf("this program was built without mode %q; give it WithLauncher(docker.New())", modeContainer)

// locate finds what the engine of cfg is run from. pending says what there is to get first.
func (o *options) locate(ctx context.Context, cfg ProvisionConfig, program engine.Program) (b engine.Binary, pending string, err error) {
	if !cfg.contained() {
		path, pending, err := o.supply.executable(cfg, program).Find(ctx)
		if err != nil || pending != "" {
			return engine.Binary{}, pending, err
		}
		b, err = o.supply.inspector().Inspect(ctx, path, program, plainEnv(cfg))
		return b, "", err
	}
	l, ok := o.launcher(modeContainer)
	if !ok {
		return engine.Binary{}, "", errNoLauncher
	}
	if b, pending, err = l.Locate(ctx, cfg, program); err != nil || pending != "" {
		return engine.Binary{}, pending, err
	}
	b, err = o.contained(ctx, l, cfg, program, b)
	return b, "", err
}

// fetch is locate that gets what is missing.
func (o *options) fetch(ctx context.Context, cfg ProvisionConfig, program engine.Program, tell listener) (engine.Binary, error) {
	if !cfg.contained() {
		path, err := o.supply.executable(cfg, program).Get(ctx, acquiring(tell))
		if err != nil {
			return engine.Binary{}, err
		}
		return o.supply.inspector().Inspect(ctx, path, program, plainEnv(cfg))
	}
	l, ok := o.launcher(modeContainer)
	if !ok {
		return engine.Binary{}, errNoLauncher
	}
	b, err := l.Fetch(ctx, cfg, program, tell.progress)
	if err != nil {
		return engine.Binary{}, err
	}
	return o.contained(ctx, l, cfg, program, b)
}

// contained completes the facts about what is in an image. The metadata of a Python distribution cannot be seen from
// outside, and to ask a vLLM costs 17 s: its running server says its version.
func (o *options) contained(ctx context.Context, l Launcher, cfg ProvisionConfig, program engine.Program, b engine.Binary) (engine.Binary, error) {
	if program.Distribution != "" {
		return b, nil
	}
	return o.supply.inspector().Facts(ctx, b, program, plainEnv(cfg), func(args []string) (string, error) {
		return l.Ask(ctx, cfg, program, b, args)
	})
}

// find takes hold of a recorded launch.
func (o *options) find(ctx context.Context, files state.Files, rec record) (Instance, error) {
	by, err := o.performer(rec.Launch.Mode)
	if err != nil {
		return nil, err
	}
	return by.Find(ctx, rec.ref(files.State))
}

// refer takes over what has become known of the launch.
func (r *record) refer(inst Instance) {
	ref := inst.Ref()
	r.TempDir, r.Runtime, r.Cgroup, r.Process = ref.TempDir, ref.Runtime, ref.cgroup, ref.process
	if pid := inst.PID(); pid > 0 && pid != ref.process.PID {
		r.Process = proc.Identify(pid)
	}
}

// ref is what finds the launch of a record.
func (r record) ref(state string) LaunchRef {
	return LaunchRef{
		StateDir: state, Pool: r.Pool, Replica: r.Replica, LaunchID: r.LaunchID, StartedAt: r.StartedAt, Log: r.Log,
		TempDir: r.TempDir, Runtime: r.Runtime, cgroup: r.Cgroup, process: r.Process,
		shmNamed: r.ShmNamed,
	}
}
