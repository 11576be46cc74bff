package provisioner

import (
	"context"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
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
	ref LaunchRef
}

func (h hostLauncher) Reserve(_ ProvisionConfig, ref LaunchRef) (Instance, error) {
	l, err := local.Reserve(localRef(ref), "engine-"+ref.Pool+"-"+ref.Replica+"-"+ref.LaunchID, h.cgroup)
	if err != nil {
		return nil, err
	}
	return &hostInstance{l, ref}, nil
}

func (h hostLauncher) Find(_ context.Context, ref LaunchRef) (Instance, error) {
	l, err := local.Find(localRef(ref))
	if err != nil {
		return nil, err
	}
	return &hostInstance{l, ref}, nil
}

func localRef(ref LaunchRef) local.Ref {
	return local.Ref{
		ID: ref.LaunchID, StartedAt: ref.StartedAt, Log: ref.Log, TempDir: ref.TempDir, Cgroup: ref.cgroup, Process: ref.process,
		ShmNamed: ref.shmNamed,
	}
}

func (i *hostInstance) Ref() LaunchRef {
	ref, known := i.ref, i.Launch.Ref
	ref.TempDir, ref.cgroup, ref.process = known.TempDir, known.Cgroup, known.Process
	return ref
}

func (i *hostInstance) Start(_ context.Context, l Launch) error {
	return i.Launch.Start(proc.Command{
		Path: l.Host.Binary.Path, Args: l.Args, Dir: l.Dir, Env: l.Env, Log: l.files.log, Lock: l.files.lock, Tied: l.Config.tied(),
	}, l.Note)
}

func (i *hostInstance) Members() ([]Member, error) {
	found, err := i.Launch.Members()
	return asMembers(found), err
}

func (i *hostInstance) Observe() ([]Member, error) {
	found, err := i.Launch.Observe()
	return asMembers(found), err
}

func asMembers(found []procfs.Stat) []Member {
	members := make([]Member, len(found))
	for i, s := range found {
		members[i] = Member{PID: s.PID, Name: s.Comm, State: s.State, CPU: s.CPU(), Memory: s.RSS()}
	}
	return members
}

func (i *hostInstance) Exit() Exit {
	end := i.Launch.Exit()
	return Exit{
		Known: end.Known, Code: end.Code, Signal: end.Signal,
		OOM: end.OOM, OOMShared: end.OOMShared, NotOOM: end.NotOOM,
	}
}
