package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/exefile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/shm"
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
	ref    LaunchRef
	leader *proc.Process // nil when only other processes of the tree are left
	tree   proc.Tree
	oom    oomWatch
	shm    shm.Leftovers
}

func (h hostLauncher) Reserve(_ ProvisionConfig, ref LaunchRef) (Instance, error) {
	var err error
	if ref.TempDir, err = tempDir(ref.LaunchID); err != nil {
		return nil, err
	}
	i := &hostInstance{ref: ref, tree: proc.Tree{Mark: ref.LaunchID}}
	i.oom.machine = cgroup.WatchMachineOOM()
	// Not delegated is the usual case; doctor tells of it.
	if base, err := h.cgroup(); err == nil {
		i.tree.Group = base.Group("engine-" + ref.Pool + "-" + ref.Replica + "-" + ref.LaunchID)
		i.ref.cgroup = i.tree.Group.Path
		i.oom.shared = base.WatchOOM()
	}
	return i, nil
}

func (h hostLauncher) Find(_ context.Context, ref LaunchRef) (Instance, error) {
	i := &hostInstance{ref: ref, tree: proc.Tree{
		Mark: ref.LaunchID, Group: cgroup.Open(ref.cgroup), Past: proc.Past{PID: ref.process.PID, Log: ref.Log},
	}}
	if err := i.findLeader(); err != nil && !errors.Is(err, proc.ErrGone) {
		return nil, err
	}
	return i, nil
}

// findLeader takes hold of the leader that the reference names. A provisioner that was killed between the start and the
// record of the process leaves a record without one; then the launch's mark finds the leader: it leads its session.
func (i *hostInstance) findLeader() error {
	if i.ref.process.PID == 0 {
		members, err := i.tree.Members()
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
		i.leader, i.tree.Leader, i.ref.process = leader, leader.ID, leader.ID
		return nil
	}
	leader, err := proc.Find(i.ref.process)
	if err != nil {
		return err
	}
	i.leader, i.tree.Leader = leader, i.ref.process
	return nil
}

func (i *hostInstance) Ref() LaunchRef { return i.ref }

func (i *hostInstance) Start(_ context.Context, l Launch) error {
	if err := os.Mkdir(i.ref.TempDir, 0o700); err != nil {
		err = fmt.Errorf("cannot create a temporary folder: %w", err)
		i.ref.TempDir = "" // not ours to remove
		return err
	}
	err := i.launch(proc.Command{
		Path: l.Host.Binary.Path, Args: l.Args, Dir: l.Dir, Env: l.Env, Log: l.files.log, Lock: l.files.lock, Tied: l.Config.tied(),
	}, l.Note)
	if err != nil {
		problem := exefile.StartProblem(l.Host.Binary.Path, err)
		if _, gone := os.Stat(l.Dir); gone != nil && l.Dir != "" {
			problem = fmt.Sprintf("its working directory %q is missing", l.Dir) // the kernel says the same of both
		}
		if problem != "" {
			err = fmt.Errorf("%w: %s", err, problem)
		}
		return &binary.Error{Err: fmt.Errorf("cannot run the engine's executable: %w", err)}
	}
	i.tree.Leader, i.ref.process = i.leader.ID, i.leader.ID
	return nil
}

// launch starts the process, in a cgroup of its own where that can be had: Linux before 5.7, a seccomp filter or a full
// tree refuse it, and an engine runs as well without one.
func (i *hostInstance) launch(c proc.Command, note func(string)) (err error) {
	if group := i.tree.Group; group != nil {
		c.Group = group
		refused := group.Create()
		if refused == nil {
			if i.leader, refused = proc.StartSession(c); refused == nil {
				return nil
			}
		}
		if err := group.Remove(); err != nil {
			note(err.Error())
		}
		c.Group, i.tree.Group, i.ref.cgroup = nil, nil, ""
		defer func() {
			if err == nil { // else the reason lies in the command
				note("the engine gets no cgroup of its own: " + refused.Error())
			}
		}()
	}
	i.leader, err = proc.StartSession(c)
	return err
}

func (i *hostInstance) PID() int {
	if i.leader == nil {
		return 0
	}
	return i.leader.PID
}

func (i *hostInstance) Wait(ctx context.Context) error {
	if i.leader == nil {
		return nil
	}
	return i.leader.Wait(ctx)
}

func (i *hostInstance) Exited() bool { return i.leader == nil || i.leader.Exited() }

// Signal also continues the process: a stopped one would get the signal only then.
func (i *hostInstance) Signal(sig syscall.Signal) error {
	if i.leader == nil {
		return nil
	}
	return errors.Join(i.leader.Signal(sig), i.leader.Signal(syscall.SIGCONT))
}

func (i *hostInstance) Members() ([]Member, error) {
	found, err := i.tree.Members()
	return asMembers(found), err
}

func asMembers(found []procfs.Stat) []Member {
	members := make([]Member, len(found))
	for i, s := range found {
		members[i] = Member{PID: s.PID, Name: s.Comm, State: s.State, CPU: s.CPU(), Memory: s.RSS()}
	}
	return members
}

// Observe remembers which objects in /dev/shm the tree has made: whoever is killed leaves them behind (vLLM 400 MB).
func (i *hostInstance) Observe() ([]Member, error) {
	found, err := i.observe()
	return asMembers(found), err
}

func (i *hostInstance) observe() ([]procfs.Stat, error) {
	members, err := i.tree.Members()
	for _, m := range members {
		i.shm.Note(m.PID)
	}
	return members, err
}

func (i *hostInstance) Kill() (int, error) {
	members, err := i.observe()
	n := i.tree.Kill(members)
	if i.leader != nil {
		_ = i.leader.Signal(syscall.SIGKILL) // also where /proc does not show it
	}
	return n, err
}

func (i *hostInstance) Listens(host string, port int) (owns, known bool) {
	return i.tree.OwnsListener(host, port)
}

func (i *hostInstance) Exit() Exit {
	var exit Exit
	if i.leader != nil {
		end := i.leader.Reap()
		exit = Exit{Known: end.Known, Code: end.Code, Signal: end.Signal}
	}
	i.oom.look(i.tree.Group, &exit)
	return exit
}

func (i *hostInstance) Remove() error {
	return errors.Join(i.removeTemp(), i.removeShm(), i.tree.Group.Remove())
}

func (i *hostInstance) Release() {
	if i.leader != nil {
		i.leader.Close()
	}
}

func (i *hostInstance) removeShm() error {
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
	return i.shm.Remove(i.ref.StartedAt, i.ref.shmNamed, pids)
}

// tempPrefix begins the name of a launch's private temporary folder. It is short, because engines put unix sockets
// into it, and their paths must stay under 108 bytes.
const tempPrefix = "ep-"

// tempDir is where the temporary folder of a launch shall be. It is known before it exists, so that the record can name
// it first and no crash leaves a folder that nobody knows of.
func tempDir(launchID string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(os.TempDir(), tempPrefix+launchID[:12]))
	if err != nil {
		return "", fmt.Errorf("cannot find the temporary folder: %w", err)
	}
	return dir, nil
}

// ownTempDir reports whether dir is named like the temporary folder of a launch.
func ownTempDir(dir, launchID string) bool {
	return filepath.IsAbs(dir) && len(launchID) >= 12 && filepath.Base(dir) == tempPrefix+launchID[:12]
}

func (i *hostInstance) removeTemp() error {
	if !ownTempDir(i.ref.TempDir, i.ref.LaunchID) {
		return nil // not a folder that we made
	}
	return os.RemoveAll(i.ref.TempDir)
}

// oomWatch is what the kernel counts of its own kills for want of memory, where it counts them for this program.
type oomWatch struct {
	shared  cgroup.OOM // of all engines below the delegated cgroup
	machine cgroup.OOM // of all processes
}

// look reads the counts of a launch that has ended, before its cgroup goes.
func (o *oomWatch) look(group *cgroup.Group, exit *Exit) {
	kills, where, known := group.OOMKills()
	if !known {
		exit.OOMShared = true
		kills, where, known = o.shared.Kills()
	}
	if !known {
		kills, where, known = o.machine.Kills()
	}
	exit.NotOOM = known && kills == 0
	if known && kills > 0 {
		exit.OOM = fmt.Sprintf("oom_kill rose by %d in %s", kills, where)
	}
}
