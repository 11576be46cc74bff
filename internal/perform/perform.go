// Package perform finds who performs the launches of a provisioning mode: this host, by its processes, or a launch.Launcher that a
// program has added. Both are the same to who starts and finds launches.
//
// Package provisioner calls it. It decides nothing about a launch, and remembers none: a Ref is what a record keeps.
package perform

import (
	"context"
	"fmt"
	"slices"

	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/launch"
)

// ModeContainer is the provisioning mode of engines that run in containers.
const ModeContainer = "container"

// ErrNoLauncher says that nobody performs launches in containers.
var ErrNoLauncher = fmt.Errorf("this program was built without mode %q; give it WithLauncher(docker.New())", ModeContainer)

// Performer is what the processes of this host and a Launcher have in common.
type Performer interface {
	// Reserve makes an instance of a launch that is about to begin. tied says that it is to be killed with this program.
	Reserve(to launch.Target, tied bool, ref Ref) (launch.Instance, error)
	// Find takes hold of a launch that was begun.
	Find(ctx context.Context, ref Ref) (launch.Instance, error)
}

// Ref is what finds a launch again. What is not in the launch.Ref is of processes of this host.
type Ref struct {
	launch.Ref

	Cgroup   string
	Process  proc.ID
	ShmNamed []string // see shm.Named
}

// Launchers are those that were added.
type Launchers []launch.Launcher

// Of finds a Launcher by its mode; the last one wins.
func (all Launchers) Of(mode string) (launch.Launcher, bool) {
	for _, l := range slices.Backward(all) {
		if l.Mode() == mode {
			return l, true
		}
	}
	return nil, false
}

// Performer is who performs the launches of a mode. base finds the folder of cgroups for those of this host.
func (all Launchers) Performer(mode string, base func() (cgroup.Base, error)) (Performer, error) {
	if l, ok := all.Of(mode); ok {
		return added{l}, nil
	}
	if mode == ModeContainer {
		return nil, ErrNoLauncher
	}
	return onHost{base}, nil
}

// added is a Launcher that was added, as a performer.
type added struct{ launch.Launcher }

func (l added) Reserve(to launch.Target, _ bool, ref Ref) (_ launch.Instance, err error) {
	if ref.StateID, err = state.MakeID(ref.StateDir); err != nil {
		return nil, err
	}
	return l.Launcher.Reserve(to, ref.Ref)
}

func (l added) Find(ctx context.Context, ref Ref) (_ launch.Instance, err error) {
	if ref.StateID, err = state.ID(ref.StateDir); err != nil {
		return nil, err
	}
	return l.Launcher.Find(ctx, ref.Ref)
}
