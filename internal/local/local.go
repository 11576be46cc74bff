// Package local performs launches as processes of this host: in a cgroup of their own where that can be had, with a private
// temporary folder, found again after a restart of the program, and put away with what they leave in /dev/shm.
//
// The launcher of this host calls it. It decides nothing about a launch: whether one is ended, and when, and what its
// command is, is its caller's.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/exefile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/shm"
)

// Ref is what finds a launch again, also for a later program.
type Ref struct {
	ID        string // its mark
	StartedAt time.Time
	Log       string   // the file for the engine's output
	TempDir   string   // its private temporary folder
	Cgroup    string   // the folder of its own cgroup; "" where it has none
	Process   proc.ID  // its main process
	ShmNamed  []string // see shm.Named
}

// Launch is a launch as a tree of processes. Its methods are safe for concurrent use once Start or Find has returned.
type Launch struct {
	Ref    Ref
	Leader *proc.Process // nil when only other processes of the tree are left
	Tree   proc.Tree
	oom    oomWatch
	shm    shm.Leftovers
}

// Reserve makes a launch that is about to begin, and changes nothing on the node. name is that of its cgroup, below the
// folder that base finds.
func Reserve(ref Ref, name string, base func() (cgroup.Base, error)) (*Launch, error) {
	var err error
	if ref.TempDir, err = tempDir(ref.ID); err != nil {
		return nil, err
	}
	i := &Launch{Ref: ref, Tree: proc.Tree{Mark: ref.ID, Since: proc.Now()}}
	i.oom.own, i.oom.machine = cgroup.WatchOwnOOM(), cgroup.WatchMachineOOM()
	// Not delegated is the usual case; doctor tells of it.
	if base, err := base(); err == nil {
		i.Tree.Group = base.Group(name)
		i.Ref.Cgroup = i.Tree.Group.Path
		i.oom.shared = base.WatchOOM()
	}
	return i, nil
}

// Find takes hold of a launch that this program or an earlier one has begun. One that has exited is what becomes of it when
// its main process is gone; an error says that nobody can tell.
func Find(ref Ref) (*Launch, error) {
	i := &Launch{Ref: ref, Tree: proc.Tree{
		Mark: ref.ID, Group: cgroup.Open(ref.Cgroup), Past: proc.Past{PID: ref.Process.PID, Log: ref.Log},
		Since: ref.Process.Began(),
	}}
	if err := i.findLeader(); err != nil && !errors.Is(err, proc.ErrGone) {
		return nil, err
	}
	return i, nil
}

// findLeader takes hold of the leader that the reference names. A provisioner that was killed between the start and the
// record of the process leaves a record without one; then the launch's mark finds the leader: it leads its session.
func (i *Launch) findLeader() error {
	if i.Ref.Process.PID == 0 {
		members, err := i.Tree.Members()
		if err != nil {
			return err
		}
		members = slices.DeleteFunc(members, func(m procfs.Stat) bool { return m.PID != m.SID })
		if len(members) == 0 {
			return proc.ErrGone
		}
		// Its workers can have sessions of their own, but are younger.
		oldest := slices.MinFunc(members, func(a, b procfs.Stat) int {
			return cmp.Or(cmp.Compare(a.StartTicks, b.StartTicks), cmp.Compare(a.PID, b.PID))
		})
		leader, err := proc.Hold(oldest.PID)
		if err != nil {
			return err
		}
		i.Leader, i.Tree.Leader, i.Ref.Process = leader, leader.ID, leader.ID
		return nil
	}
	leader, err := proc.Find(i.Ref.Process)
	if err != nil {
		return err
	}
	i.Leader, i.Tree.Leader = leader, i.Ref.Process
	return nil
}

// Start begins the launch. When it fails, what Kill and Remove do not find is gone.
func (i *Launch) Start(c proc.Command, note func(string)) error {
	if err := os.Mkdir(i.Ref.TempDir, 0o700); err != nil {
		err = fmt.Errorf("cannot create a temporary folder: %w", err)
		i.Ref.TempDir = "" // not ours to remove
		return err
	}
	if err := i.launch(c, note); err != nil {
		problem := exefile.StartProblem(c.Path, err)
		if _, gone := os.Stat(c.Dir); gone != nil && c.Dir != "" {
			problem = fmt.Sprintf("its working directory %q is missing", c.Dir) // the kernel says the same of both
		}
		if problem != "" {
			err = fmt.Errorf("%w: %s", err, problem)
		}
		return &binary.Error{Err: fmt.Errorf("cannot run the engine's executable: %w", err)}
	}
	i.Tree.Leader, i.Ref.Process = i.Leader.ID, i.Leader.ID
	return nil
}

// launch starts the process, in a cgroup of its own where that can be had: Linux before 5.7, a seccomp filter or a full
// tree refuse it, and an engine runs as well without one.
func (i *Launch) launch(c proc.Command, note func(string)) (err error) {
	if group := i.Tree.Group; group != nil {
		c.Group = group
		refused := group.Create()
		if refused == nil {
			if i.Leader, refused = proc.StartSession(c); refused == nil {
				return nil
			}
		}
		if err := group.Remove(); err != nil {
			note(err.Error())
		}
		c.Group, i.Tree.Group, i.Ref.Cgroup = nil, nil, ""
		defer func() {
			if err == nil { // else the reason lies in the command
				note("the engine gets no cgroup of its own: " + refused.Error())
			}
		}()
	}
	i.Leader, err = proc.StartSession(c)
	return err
}

// PID is the id of the main process; 0 when it is not known.
func (i *Launch) PID() int {
	if i.Leader == nil {
		return 0
	}
	return i.Leader.PID
}

// Wait returns nil when the main process has ended, or the cause of ctx's end.
func (i *Launch) Wait(ctx context.Context) error {
	if i.Leader == nil {
		return nil
	}
	return i.Leader.Wait(ctx)
}

// Exited reports whether the main process has ended, or is not known.
func (i *Launch) Exited() bool { return i.Leader == nil || i.Leader.Exited() }

// Signal sends sig to the main process, which may have ended, and continues it: a stopped one would get the signal only then.
func (i *Launch) Signal(sig syscall.Signal) error {
	if i.Leader == nil {
		return nil
	}
	return errors.Join(i.Leader.Signal(sig), i.Leader.Signal(syscall.SIGCONT))
}

// Members lists the living processes.
func (i *Launch) Members() ([]procfs.Stat, error) { return i.Tree.Members() }

// Observe is Members that remembers which objects in /dev/shm they have made: whoever is killed leaves them behind (vLLM
// 400 MB).
func (i *Launch) Observe() ([]procfs.Stat, error) {
	members, err := i.Tree.Members()
	if shm.AnySince(i.Ref.StartedAt) {
		for _, m := range members {
			i.shm.Note(m.PID)
		}
	}
	return members, err
}

// Glance is Observe by a look that may be some milliseconds old, unless there is something to remember.
func (i *Launch) Glance() ([]procfs.Stat, error) {
	if shm.AnySince(i.Ref.StartedAt) {
		return i.Observe()
	}
	return i.Tree.Recent()
}

// Kill sends SIGKILL to all processes and returns how many there were.
func (i *Launch) Kill() (int, error) {
	members, err := i.Observe()
	n := i.Tree.Kill(members)
	if i.Leader != nil {
		_ = i.Leader.Signal(syscall.SIGKILL) // also where /proc does not show it
	}
	return n, err
}

// Listens reports whether a process of the launch listens on host and port; known is false when that cannot be seen.
func (i *Launch) Listens(host string, port int) (owns, known bool) {
	return i.Tree.OwnsListener(host, port)
}

// Exit is how a main process ended.
type Exit struct {
	proc.Status
	OOM       string // what tells that the kernel killed it for want of memory; "" for nothing
	OOMShared bool   // that may be about another launch
	NotOOM    bool   // whoever counts such kills has counted none
}

// Exit tells how the main process ended, after it has.
func (i *Launch) Exit() Exit {
	var exit Exit
	if i.Leader != nil {
		exit.Status = i.Leader.Reap()
	}
	i.oom.look(i.Tree.Group, &exit)
	return exit
}

// Remove removes what is left of a launch all of whose processes have ended.
func (i *Launch) Remove() error {
	return errors.Join(i.removeTemp(), i.removeShm(), i.Tree.Group.Remove())
}

// Release lets go of what runs on. It changes nothing on the node.
func (i *Launch) Release() {
	if i.Leader != nil {
		i.Leader.Close()
	}
}

func (i *Launch) removeShm() error {
	if len(i.shm.Paths()) == 0 {
		return nil
	}
	all, err := procfs.Processes()
	if err != nil {
		return err
	}
	pids := make([]int, len(all))
	for n, s := range all {
		pids[n] = s.PID
	}
	return i.shm.Remove(i.Ref.StartedAt, i.Ref.ShmNamed, pids)
}

// TempPrefix begins the name of a launch's private temporary folder. It is short, because engines put unix sockets
// into it, and their paths must stay under 108 bytes.
const TempPrefix = "ep-"

// tempDir is where the temporary folder of a launch shall be. It is known before it exists, so that the record can name
// it first and no crash leaves a folder that nobody knows of.
func tempDir(launchID string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(os.TempDir(), TempPrefix+launchID[:12]))
	if err != nil {
		return "", fmt.Errorf("cannot find the temporary folder: %w", err)
	}
	return dir, nil
}

// EndOrphans ends the processes that carry a mark, which nobody looks after any more, with the temporary folder that they
// were given. It returns how many there were.
func EndOrphans(mark string, patience time.Duration) (int, error) {
	i := &Launch{Ref: Ref{ID: mark}, Tree: proc.Tree{Mark: mark}}
	members, _ := i.Tree.Members() // the sweep tells what is wrong
	for _, m := range members {
		// Only the name that this launch's folder has: an engine may have set another, which is somebody's data.
		if temp, _ := procfs.Env(m.PID, "TMPDIR"); ownTempDir(temp, mark) && procfs.HasEnv(m.PID, proc.MarkEnv+"="+mark) {
			i.Ref.TempDir = temp
		}
	}
	n, err := proc.Sweep(patience, i.Kill, i.Tree.Survivors)
	return n, errors.Join(err, i.removeTemp())
}

// ownTempDir reports whether dir is named like the temporary folder of a launch.
func ownTempDir(dir, launchID string) bool {
	return filepath.IsAbs(dir) && len(launchID) >= 12 && filepath.Base(dir) == TempPrefix+launchID[:12]
}

func (i *Launch) removeTemp() error {
	if !ownTempDir(i.Ref.TempDir, i.Ref.ID) {
		return nil // not a folder that we made
	}
	return os.RemoveAll(i.Ref.TempDir)
}
