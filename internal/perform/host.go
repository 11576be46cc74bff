package perform

import (
	"context"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/launch"
)

// onHost performs launches as processes of this host.
type onHost struct {
	cgroup func() (cgroup.Base, error)
}

// Files are open files of a launch that a process inherits.
type Files struct {
	Log  *os.File // receives both output streams
	Lock *os.File // stays locked as long as a process of the engine lives
}

// Processes is a launch as a tree of processes of this host.
type Processes struct {
	*local.Launch
	Files Files // to be inherited; set before Start

	ref  Ref
	tied bool // it is killed with this program
}

func (h onHost) Reserve(_ launch.Target, tied bool, ref Ref) (launch.Instance, error) {
	l, err := local.Reserve(localRef(ref), "engine-"+ref.Pool+"-"+ref.Replica+"-"+ref.LaunchID, h.cgroup)
	if err != nil {
		return nil, err
	}
	return &Processes{Launch: l, ref: ref, tied: tied}, nil
}

func (onHost) Find(_ context.Context, ref Ref) (launch.Instance, error) {
	l, err := local.Find(localRef(ref))
	if err != nil {
		return nil, err
	}
	return &Processes{Launch: l, ref: ref}, nil
}

func localRef(ref Ref) local.Ref {
	return local.Ref{
		ID: ref.LaunchID, StartedAt: ref.StartedAt, Log: ref.Log, TempDir: ref.TempDir, Cgroup: ref.Cgroup, Process: ref.Process,
		ShmNamed: ref.ShmNamed,
	}
}

// Ref is what finds the launch again, as far as it is known by now.
func (i *Processes) Ref() launch.Ref {
	ref := i.ref.Ref
	ref.TempDir = i.Launch.Ref.TempDir
	return ref
}

// Start begins it.
func (i *Processes) Start(_ context.Context, l launch.Launch) error {
	return i.Launch.Start(proc.Command{
		Path: l.Host.Binary.Path, Args: l.Args, Dir: l.Dir, Env: l.Env, Log: i.Files.Log, Lock: i.Files.Lock, Tied: i.tied,
	}, l.Note)
}

// Members lists the living processes.
func (i *Processes) Members() ([]launch.Member, error) {
	found, err := i.Launch.Members()
	return asMembers(found), err
}

// Observe is Members that remembers what they would leave behind if they were killed.
func (i *Processes) Observe() ([]launch.Member, error) {
	found, err := i.Launch.Observe()
	return asMembers(found), err
}

// Glance is Observe by a look that may be some milliseconds old, where there is nothing to remember.
func (i *Processes) Glance() ([]launch.Member, error) {
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

// Exit tells how the main process ended, after it has.
func (i *Processes) Exit() launch.Exit {
	end := i.Launch.Exit()
	return launch.Exit{
		Known: end.Known, Code: end.Code, Signal: end.Signal,
		OOM: end.OOM, OOMShared: end.OOMShared, NotOOM: end.NotOOM,
	}
}
