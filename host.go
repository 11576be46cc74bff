package provisioner

import (
	"context"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/launch"
)

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
