package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/launch"
)

// instance is a launch as a container.
type instance struct {
	r   *runtime
	ref launch.Ref
	log *logCopy

	id     string // of the container; "" when there is none
	pid    int    // of its first process on this host
	onHost bool   // it has the host's own network

	watching sync.Once          // follows the log and waits for the end
	cancel   context.CancelFunc // ends watching
	watched  chan struct{}      // closed when watching has ended
	exited   chan struct{}      // closed when the container has ended, or is known to be gone; exit is valid then
	exit     launch.Exit
}

func newInstance(r *runtime, ref launch.Ref) *instance {
	return &instance{
		r: r, ref: ref, log: newLogCopy(r, ref.Log), cancel: func() {}, watched: make(chan struct{}), exited: make(chan struct{}),
	}
}

// find looks for the container. One that was created and never started is none.
func (i *instance) find(ctx context.Context) error {
	list, err := i.launched(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		close(i.exited)
		return nil
	}
	i.id = list[0].ID
	found, err := i.look(ctx)
	if err != nil {
		return err
	}
	i.onHost = found.HostConfig != nil && found.HostConfig.NetworkMode.IsHost()
	state := found.State
	if running(state) {
		i.pid = state.Pid
		return nil
	}
	i.log.finish(ctx, i.id)
	i.ended(state)
	return nil
}

func running(s *container.State) bool {
	return s != nil && (s.Running || s.Status == container.StateRunning || s.Status == container.StatePaused)
}

// look asks for the container; of one that is gone, nothing is known.
func (i *instance) look(ctx context.Context) (container.InspectResponse, error) {
	ctx, cancel := i.r.bound(ctx)
	defer cancel()
	found, err := i.r.api.ContainerInspect(ctx, i.id, client.ContainerInspectOptions{})
	switch {
	case notFound(err):
		return container.InspectResponse{}, nil
	case err != nil:
		return container.InspectResponse{}, fmt.Errorf("cannot look at the container %.12s: %w", i.id, err)
	}
	return found.Container, nil
}

// inspect returns nil for a container that is gone.
func (i *instance) inspect(ctx context.Context) (*container.State, error) {
	found, err := i.look(ctx)
	return found.State, err
}

// ended takes over how the container ended. One that somebody has removed, or that never started, tells nothing.
func (i *instance) ended(state *container.State) {
	if state != nil && state.Status != container.StateCreated {
		i.exit = launch.Exit{Known: true, Code: state.ExitCode}
		// A first process that is killed by signal n makes the container end with 128+n.
		if sig := syscall.Signal(state.ExitCode - 128); state.ExitCode > 128 && unix.SignalName(sig) != "" {
			i.exit.Code, i.exit.Signal = -1, sig.String()
		}
		if state.OOMKilled {
			i.exit.OOM = "the container's state says OOMKilled"
		}
	}
	close(i.exited)
}

func (i *instance) Ref() launch.Ref { return i.ref }

func (i *instance) PID() int { return i.pid }

func (i *instance) Exited() bool {
	if i.isOver() {
		return true
	}
	if s, err := procfs.ReadStat(i.pid); err == nil { // faster than the runtime's word
		return s.Dead()
	}
	return false
}

func (i *instance) Wait(ctx context.Context) error {
	if i.isOver() {
		return nil
	}
	i.watching.Do(i.beginWatch)
	select {
	case <-i.exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// beginWatch begins to follow the log and to wait for the end.
func (i *instance) beginWatch() {
	ctx, cancel := context.WithCancel(context.Background())
	i.cancel = cancel
	go func() {
		defer close(i.watched)
		var copying sync.WaitGroup
		following, leave := context.WithCancel(ctx)
		copying.Go(func() { i.log.follow(following, i.id) })
		state := i.awaitEnd(ctx)
		leave()
		copying.Wait()
		if ctx.Err() != nil {
			return // released
		}
		i.log.finish(ctx, i.id)
		i.ended(state)
	}()
}

func (i *instance) isOver() bool {
	select {
	case <-i.exited:
		return true
	default:
		return i.id == ""
	}
}

// awaitEnd waits until the container does not run any more. A runtime that is restarted meanwhile is waited for.
func (i *instance) awaitEnd(ctx context.Context) *container.State {
	for pause := 20 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		wait := i.r.api.ContainerWait(ctx, i.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case <-wait.Result:
		case err := <-wait.Error: // such as a lost connection; the state counts
			_ = err
		}
		if state, err := i.inspect(ctx); err == nil && !running(state) {
			return state
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

func (i *instance) Signal(sig syscall.Signal) error {
	if i.isOver() {
		return nil
	}
	ctx, cancel := i.r.bound(context.Background())
	defer cancel()
	return i.send(ctx, sig)
}

// send sends a signal. A paused container is continued first: it would get the signal only then, and Docker refuses it.
func (i *instance) send(ctx context.Context, sig syscall.Signal) error {
	state, err := i.inspect(ctx)
	if err != nil || !running(state) {
		return err
	}
	if state.Paused || state.Status == container.StatePaused {
		if _, err := i.r.api.ContainerUnpause(ctx, i.id, client.ContainerUnpauseOptions{}); err != nil && !gone(err) {
			return err
		}
	}
	_, err = i.r.api.ContainerKill(ctx, i.id, client.ContainerKillOptions{Signal: unix.SignalName(sig)})
	if gone(err) {
		return nil
	}
	return err
}

// Members are the processes in the container's control group, as this host sees them. Where it does not, as on a Mac
// or from inside another container, the container stands for them all.
func (i *instance) Members() ([]launch.Member, error) {
	if i.id == "" { // the launch may have begun since
		list, err := i.launched(context.Background())
		if err != nil || len(list) == 0 || list[0].State != container.StateRunning {
			return nil, err
		}
		return []launch.Member{{Name: "container " + i.name(), State: 'R'}}, nil
	}
	all, err := procfs.Processes()
	var members []launch.Member
	for _, s := range all {
		if !s.Dead() && procfs.InContainer(s.PID, i.id) {
			members = append(members, launch.Member{
				PID: s.PID, Name: s.Comm, State: s.State, CPU: s.CPU(), Memory: s.RSS(),
			})
		}
	}
	if len(members) > 0 || i.isOver() {
		return members, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), glanceTime)
	defer cancel()
	state, err := i.inspect(ctx)
	if err != nil || !running(state) {
		return nil, err
	}
	return []launch.Member{{PID: state.Pid, Name: "container " + i.name(), State: 'R'}}, nil
}

// Observe has nothing to remember: what the processes leave behind is in the container, and goes with it.
func (i *instance) Observe() ([]launch.Member, error) { return i.Members() }

func (i *instance) Kill() (int, error) {
	ctx, cancel := i.r.bound(context.Background())
	defer cancel()
	if i.id == "" {
		list, err := i.launched(ctx)
		if err != nil || len(list) == 0 {
			return 0, err
		}
		i.id = list[0].ID
	}
	state, err := i.inspect(ctx)
	if err != nil || !running(state) {
		return 0, err
	}
	return 1, i.send(ctx, syscall.SIGKILL)
}

// Listens goes by what the runtime has published; on the host's own network it looks at the sockets. The runtime is not
// asked: it can take a minute where the machine is busy, and a start waits for this.
func (i *instance) Listens(host string, port int) (owns, known bool) {
	if i.onHost {
		members, err := i.Members()
		if err != nil {
			return false, false
		}
		return holds(members, host, port)
	}
	// Whoever else listened there would have kept the runtime from publishing it.
	return !i.Exited(), true
}

func (i *instance) Exit() launch.Exit {
	i.Release()
	select {
	case <-i.exited:
		return i.exit
	default:
		return launch.Exit{}
	}
}

func (i *instance) Remove() error {
	ctx := context.Background()
	list, err := i.launched(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		err = errors.Join(err, i.r.remove(ctx, c.ID))
	}
	i.r.dropNetwork(ctx, i.ref)
	return errors.Join(err, i.log.remove())
}

func (i *instance) Release() {
	i.watching.Do(func() { close(i.watched) }) // which has not begun, and will not
	i.cancel()
	<-i.watched
	i.log.close()
}
