package provisioner

import (
	"context"
	"fmt"
	"os"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/launch"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// modeContainer is the provisioning mode of engines that run in containers.
const modeContainer = "container"

// performer is what the processes of this host and a Launcher have in common.
type performer interface {
	Reserve(cfg ProvisionConfig, ref launchRef) (launch.Instance, error)
	Find(ctx context.Context, ref launchRef) (launch.Instance, error)
}

// launchRef is what finds a launch again. What is not in the Ref is of processes of this host.
type launchRef struct {
	launch.Ref

	cgroup   string
	process  proc.ID
	shmNamed []string // see shm.Named
}

// added is a Launcher that was added, as a performer.
type added struct{ launch.Launcher }

func (l added) Reserve(cfg ProvisionConfig, ref launchRef) (_ launch.Instance, err error) {
	if ref.StateID, err = state.MakeID(ref.StateDir); err != nil {
		return nil, err
	}
	return l.Launcher.Reserve(target(cfg), ref.Ref)
}

func (l added) Find(ctx context.Context, ref launchRef) (_ launch.Instance, err error) {
	if ref.StateID, err = state.ID(ref.StateDir); err != nil {
		return nil, err
	}
	return l.Launcher.Find(ctx, ref.Ref)
}

// target is what a Launcher reads of cfg.
func target(cfg ProvisionConfig) launch.Target {
	to := launch.Target{Host: cfg.Host, Port: cfg.Port, Env: plainEnv(cfg), Keyed: cfg.APIKey != nil}
	if c := cfg.Provisioning.Container; c != nil {
		to.Container = launch.Container{
			Pull: c.Pull, RuntimeSocket: c.RuntimeSocket, Network: c.Network, Volumes: c.Volumes, Entrypoint: c.Entrypoint,
			ShmSize: int64(c.ShmSize), IPC: c.IPC, User: c.User, GPUDriver: c.GPUDriver,
		}
	}
	return to
}

// targetOf is target with the image of the engine where the configuration names none.
func targetOf(cfg ProvisionConfig, program engine.Program) launch.Target {
	to, c := target(cfg), settings.Container{}
	if cfg.Provisioning.Container != nil {
		c = *cfg.Provisioning.Container
	}
	to.Container.Image = c.Reference(program.Image)
	return to
}

// launcher finds a Launcher that was added by its mode; the last one wins.
func (o *options) launcher(mode string) (launch.Launcher, bool) {
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
		return added{l}, nil
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
	if b, pending, err = l.Locate(ctx, targetOf(cfg, program), program); err != nil || pending != "" {
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
	b, err := l.Fetch(ctx, targetOf(cfg, program), program, func(p launch.Progress) {
		tell.progress(report.Progress{Step: report.StepDownload, What: p.What, Done: p.Done, Total: p.Total, Rate: p.Rate, Remaining: p.Remaining})
	})
	if err != nil {
		return engine.Binary{}, err
	}
	return o.contained(ctx, l, cfg, program, b)
}

// contained completes the facts about what is in an image. The metadata of a Python distribution cannot be seen from
// outside, and to ask a vLLM costs 17 s: its running server says its version.
func (o *options) contained(ctx context.Context, l launch.Launcher, cfg ProvisionConfig, program engine.Program, b engine.Binary) (engine.Binary, error) {
	if program.Distribution != "" {
		return b, nil
	}
	return o.supply.inspector().Facts(ctx, b, program, plainEnv(cfg), func(args []string) (string, error) {
		return l.Ask(ctx, targetOf(cfg, program), program, b, args)
	})
}

// find takes hold of a recorded launch.
func (o *options) find(ctx context.Context, files state.Files, rec record) (launch.Instance, error) {
	by, err := o.performer(rec.Launch.Mode)
	if err != nil {
		return nil, err
	}
	return by.Find(ctx, rec.ref(files.State))
}

// refer takes over what has become known of the launch.
func (r *record) refer(inst launch.Instance) {
	ref := inst.Ref()
	r.TempDir, r.Runtime = ref.TempDir, ref.Runtime
	if host, ok := inst.(*hostInstance); ok {
		r.Cgroup, r.Process = host.Launch.Ref.Cgroup, host.Launch.Ref.Process
	}
	if pid := inst.PID(); pid > 0 && pid != r.Process.PID {
		r.Process = proc.Identify(pid)
	}
}

// ref is what finds the launch of a record.
func (r record) ref(state string) launchRef {
	return launchRef{
		Ref: launch.Ref{
			StateDir: state, Pool: r.Pool, Replica: r.Replica, LaunchID: r.LaunchID, StartedAt: r.StartedAt, Log: r.Log,
			TempDir: r.TempDir, Runtime: r.Runtime,
		},
		cgroup: r.Cgroup, process: r.Process, shmNamed: r.ShmNamed,
	}
}

// hostLauncher performs launches as processes of this host.
type hostLauncher struct {
	cgroup func() (cgroup.Base, error)
}

// launchFiles are open files of a launch that a process inherits.
type launchFiles struct {
	log  *os.File // receives both output streams
	lock *os.File // stays locked as long as a process of the engine lives
}

// hostInstance is a launch as a tree of processes.
type hostInstance struct {
	*local.Launch
	ref   launchRef
	files launchFiles // to be inherited; set before Start
	tied  bool        // it is killed with this program
}

func (h hostLauncher) Reserve(cfg ProvisionConfig, ref launchRef) (launch.Instance, error) {
	l, err := local.Reserve(localRef(ref), "engine-"+ref.Pool+"-"+ref.Replica+"-"+ref.LaunchID, h.cgroup)
	if err != nil {
		return nil, err
	}
	return &hostInstance{Launch: l, ref: ref, tied: cfg.tied()}, nil
}

func (h hostLauncher) Find(_ context.Context, ref launchRef) (launch.Instance, error) {
	l, err := local.Find(localRef(ref))
	if err != nil {
		return nil, err
	}
	return &hostInstance{Launch: l, ref: ref}, nil
}

func localRef(ref launchRef) local.Ref {
	return local.Ref{
		ID: ref.LaunchID, StartedAt: ref.StartedAt, Log: ref.Log, TempDir: ref.TempDir, Cgroup: ref.cgroup, Process: ref.process,
		ShmNamed: ref.shmNamed,
	}
}

func (i *hostInstance) Ref() launch.Ref {
	ref := i.ref.Ref
	ref.TempDir = i.Launch.Ref.TempDir
	return ref
}

func (i *hostInstance) Start(_ context.Context, l launch.Launch) error {
	return i.Launch.Start(proc.Command{
		Path: l.Host.Binary.Path, Args: l.Args, Dir: l.Dir, Env: l.Env, Log: i.files.log, Lock: i.files.lock, Tied: i.tied,
	}, l.Note)
}

func (i *hostInstance) Members() ([]launch.Member, error) {
	found, err := i.Launch.Members()
	return asMembers(found), err
}

func (i *hostInstance) Observe() ([]launch.Member, error) {
	found, err := i.Launch.Observe()
	return asMembers(found), err
}

// Glance is Observe by a look that may be some milliseconds old, where there is nothing to remember.
func (i *hostInstance) Glance() ([]launch.Member, error) {
	found, err := i.Launch.Glance()
	return asMembers(found), err
}

func asMembers(found []procfs.Stat) []launch.Member {
	members := make([]launch.Member, len(found))
	for i, s := range found {
		members[i] = launch.Member{PID: s.PID, Name: s.Comm, State: s.State, CPU: s.CPU(), Memory: s.RSS()}
	}
	return members
}

func (i *hostInstance) Exit() launch.Exit {
	end := i.Launch.Exit()
	return launch.Exit{
		Known: end.Known, Code: end.Code, Signal: end.Signal,
		OOM: end.OOM, OOMShared: end.OOMShared, NotOOM: end.NotOOM,
	}
}
