package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/hold"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
	"github.com/llama-orch/engine-provisioner/internal/hooks"
	"github.com/llama-orch/engine-provisioner/internal/local"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/report"
	"github.com/llama-orch/engine-provisioner/settings"
)

// chaosFlag makes the test binary a manager that is to be killed.
const chaosFlag = "-chaos-manager"

// failpoints are the steps at which a manager kills itself, in the order of a launch's life.
var failpoints = []string{
	"before_start", "after_record", "after_fork", "after_running_record", "before_publish", "after_publish",
	"before_unpublish", "before_term", "after_term",
}

// chaosOrder is what a manager that is to be killed shall do.
type chaosOrder struct {
	Dir, Model, Binary string
	Port               int
	Flags              []string
	Failpoint          string // where it kills itself; "" leaves that to the test
	Held               bool   // have the replica held once it is ready
	Hold               bool   // keep the engine; else it is stopped and started for ever
	Stop               bool   // be no manager, but a command that stops the engine
	Patient            bool   // default liveness, and a drain that waits for everybody
}

func (o chaosOrder) config() provisioner.ProvisionConfig {
	cfg := provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(o.Dir, "state"), Dir: o.Dir, Flags: o.Flags,
		Engine: "llamacpp", Port: o.Port, Model: settings.Model{ID: o.Model}, GPU: engine.GPUNone,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: o.Binary}},
	}
	if o.Patient {
		forever := settings.Duration(time.Hour)
		cfg.Drain.Timeout = &forever
		return cfg
	}
	return briskly(cfg)
}

func (o chaosOrder) cache() provisioner.Option {
	return provisioner.WithCacheDir(filepath.Join(o.Dir, "cache"))
}

// chaosMain is the life of a manager, if this process is one.
func chaosMain() {
	if len(os.Args) != 3 || os.Args[1] != chaosFlag {
		return
	}
	err := func() error {
		var order chaosOrder
		if err := json.Unmarshal([]byte(os.Args[2]), &order); err != nil {
			return err
		}
		limit := time.Minute // a killed test leaves nothing for ever
		if order.Patient {
			limit = time.Hour
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		die := withHooks(func(h *hooks.Hooks) {
			h.Failpoint = func(name string) {
				if name == order.Failpoint {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
			}
		})
		if order.Stop {
			p, err := provisioner.Attach(order.config().StateDir, poolR0, die, provisioner.WithDrainHook("tell", func(context.Context, provisioner.Handoff) error {
				fmt.Println("draining")
				return nil
			}))
			if err != nil {
				return err
			}
			return p.Stop(ctx)
		}
		fmt.Println("begin")
		for ctx.Err() == nil {
			s, err := opened(ctx, []provisioner.ProvisionConfig{order.config()}, order.cache(), die)
			if err != nil {
				return err
			}
			if err := s.WaitReady(ctx); err != nil {
				return err
			}
			fmt.Println("ready")
			if order.Held {
				h, err := hold.New("new driver", 0)
				if err != nil {
					return err
				}
				return s.Hold(ctx, poolR0, h, provisioner.StopOptions{})
			}
			if order.Hold {
				wanted, stop := signal.NotifyContext(ctx, os.Interrupt)
				<-wanted.Done()
				stop()
				if ctx.Err() == nil {
					err := s.Release()
					fmt.Println("released", err)
					return err
				}
			}
			if err := s.Shutdown(ctx); err != nil {
				return err
			}
		}
		return context.Cause(ctx)
	}()
	fmt.Fprintln(os.Stderr, "the manager ended by itself:", err)
	os.Exit(1)
}

// chaosRig is one replica whose managers are killed.
type chaosRig struct {
	order chaosOrder
	files state.Files
}

func newChaosRig(t *testing.T) *chaosRig {
	t.Helper()
	cfg := fakeConfig(t, enginetest.Behavior{
		LoadTime: 5 * time.Millisecond, Children: []enginetest.Child{{Kind: enginetest.NewSession}, {Kind: enginetest.DoubleFork, CloseFDs: true}},
	})
	return rigFor(t, cfg)
}

func rigFor(t *testing.T, cfg provisioner.ProvisionConfig) *chaosRig {
	t.Helper()
	c := &chaosRig{order: chaosOrder{Dir: cfg.Dir, Model: cfg.Model.ID, Binary: cfg.Provisioning.Binary.Path, Port: cfg.Port, Flags: cfg.Flags}}
	c.files = filesAt(cfg)
	p, err := provisioner.New(c.order.config(), c.order.cache())
	if err == nil {
		_, err = p.Prepare(bounded(t)) // so that no manager asks the executable for its version
	}
	if err := errors.Join(err, os.Mkdir(c.temp(), 0o700)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *chaosRig) temp() string { return filepath.Join(c.order.Dir, "tmp") }

// manager starts a manager. The returned channel gives the lines that it says, and is closed at its end.
func (c *chaosRig) manager(t *testing.T, order chaosOrder) (cmd *exec.Cmd, said <-chan string, stderr *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe, chaosFlag, string(text))
	cmd.Env = append(os.Environ(), "TMPDIR="+c.temp())
	stderr = &bytes.Buffer{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	return cmd, lines, stderr
}

// kill lets one manager run and die: at its failpoint, or after a time from when it has said word.
func (c *chaosRig) kill(t *testing.T, order chaosOrder, word string, after time.Duration) {
	t.Helper()
	cmd, said, stderr := c.manager(t, order)
	if order.Failpoint == "" {
		for line := range said {
			if line == word {
				break
			}
		}
		time.Sleep(after) // the moment of death: random, and no synchronization
		_ = cmd.Process.Kill()
	}
	for range said {
	}
	_ = cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("the manager for %q: %v\n%s", order.Failpoint, cmd.ProcessState, stderr)
	}
}

// processes are the living processes of the rig's engines: all that work in its folder, whatever else they changed.
func (c *chaosRig) processes() (all, engines []int) {
	stats, _ := procfs.Processes()
	parents := map[int]int{}
	for _, s := range stats {
		dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.PID))
		if err != nil || dir != c.order.Dir || s.Dead() {
			continue
		}
		all = append(all, s.PID)
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID))
		if bytes.Contains(line, []byte("--port\x00")) {
			engines = append(engines, s.PID)
			parents[s.PID] = s.PPID
		}
	}
	// A child that an engine forks is its image until it executes something.
	engines = slices.DeleteFunc(engines, func(pid int) bool { _, child := parents[parents[pid]]; return child })
	return all, engines
}

// torn counts files that hold a part of what was to be written. The last line of the events may have no end when its
// writer was killed: whoever writes next cuts it off, and readers wait for it.
func (c *chaosRig) torn(t *testing.T) (n int) {
	t.Helper()
	bad := func(path string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("torn: %s: %v", path, err)
			n++
		}
	}
	_, err := readRecord(c.files)
	bad(c.files.Record(), err)
	_, err = provisioner.ReadHandoff(c.files.Handoff())
	bad(c.files.Handoff(), err)
	path := filepath.Join(c.files.Dir(), "restarts.json")
	data, err := state.Read(path)
	if err == nil {
		err = json.Unmarshal(data, &report.Restarts{})
	}
	bad(path, err)
	for _, err := range ReadEvents(t.Context(), c.files.State, false) {
		bad(state.EventsName, err)
	}
	return n
}

// recover puts in order what a killed manager left, in one of the ways there are, and stops the engine. It returns the
// number of orphans.
func (c *chaosRig) recover(t *testing.T, way int) (orphans int) {
	t.Helper()
	ctx := bounded(t)
	cfg := c.order.config()
	switch way {
	case 0: // by hand
		var p *provisioner.EngineProvisioner
		var err error
		eventually(t, "Attach knows", func() bool {
			p, err = provisioner.Attach(cfg.StateDir, poolR0)
			return !errors.Is(err, provisioner.ErrBusy) // of a process that is just being born
		})
		switch {
		case err == nil:
			orphans += c.strangers(t, p)
			if err := p.Stop(ctx); err != nil {
				t.Errorf("Stop: %v", err)
			}
		case !errors.Is(err, provisioner.ErrNotRunning) && !errors.Is(err, provisioner.ErrNotFound):
			t.Errorf("Attach: %v", err)
		}
	case 1: // by a program with a loop of its own
		adopted, found, err := provisioner.Recover(ctx, cfg.StateDir)
		if err != nil {
			t.Errorf("Recover: %v", err)
		}
		for _, f := range found {
			if f.Err != nil {
				t.Errorf("Recover: %s %v", f.Result, f.Err)
			}
		}
		if len(adopted) == 0 {
			c.noHandoff(t)
		}
		for _, p := range adopted {
			orphans += c.strangers(t, p)
			if err := p.Stop(ctx); err != nil {
				t.Errorf("Stop: %v", err)
			}
		}
	default: // by the next manager
		s, err := opened(ctx, []provisioner.ProvisionConfig{cfg}, c.order.cache())
		if err != nil {
			t.Errorf("Supervise: %v", err)
			return orphans
		}
		if err := s.WaitReady(ctx); err != nil {
			t.Errorf("WaitReady: %v", err)
		}
		h, err := provisioner.ReadHandoff(c.files.Handoff())
		if err != nil || !alive(h.Process.PID) || statusAt(t, h.URL+"/health") != 200 {
			t.Errorf("ready, with the handoff %+v (%v)", h, err)
		}
		orphans += c.strangers(t, s.replicas[0].launch)
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
		c.noTemporaries(t)
	}
	all, _ := c.processes()
	for _, pid := range all {
		t.Errorf("orphan after the stop: %d", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		orphans++
	}
	c.noHandoff(t)
	lock, err := c.files.Lock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock is held: %v", err)
	} else if err == nil {
		lock.Release()
	}
	return orphans
}

// strangers counts processes of the rig that p does not know as its own, and engines beyond one.
func (c *chaosRig) strangers(t *testing.T, p *provisioner.EngineProvisioner) (n int) {
	t.Helper()
	before, engines := c.processes()
	rec := recordOf(t, p)
	members, err := (&proc.Tree{Mark: rec.LaunchID, Leader: rec.Process}).Members()
	if err != nil {
		t.Fatal(err)
	}
	known := map[int]bool{}
	for _, m := range members {
		known[m.PID] = true
	}
	for _, pid := range before {
		if !known[pid] && alive(pid) {
			t.Errorf("process %d belongs to no launch", pid)
			n++
		}
	}
	if len(engines) > 1 {
		t.Errorf("%d engines at once: %v", len(engines), engines)
	}
	return n
}

func (c *chaosRig) noHandoff(t *testing.T) {
	t.Helper()
	if _, err := os.Lstat(c.files.Handoff()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a handoff without an engine (%v)", err)
	}
}

func (c *chaosRig) noTemporaries(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{filepath.Join(c.files.State, "*", atomicfile.TempPattern), filepath.Join(c.temp(), local.TempPrefix+"*")} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left: %v (%v)", left, err)
		}
	}
}

// chaosCount is a count from the environment: make chaos asks for more.
func chaosCount(t *testing.T, name string, short int) (n int, long bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return short, false
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no count", name, text)
	}
	return n, true
}

// A manager that is killed at whatever moment leaves nothing that the next one cannot put in order.
func TestChaosManagerKilled(t *testing.T) {
	t.Parallel()
	rounds, long := chaosCount(t, "CHAOS_ROUNDS", 200)
	limit := time.Now().Add(45 * time.Second) // of the short form: with the race detector a round takes much longer
	const workers = 3
	var next, kills, orphans, torn, atFailpoints atomic.Int64
	var all sync.WaitGroup
	for range workers {
		c := newChaosRig(t)
		all.Go(func() {
			for n := int(next.Add(1)) - 1; n < rounds && !t.Failed() && (long || time.Now().Before(limit)); n = int(next.Add(1)) - 1 {
				order := c.order
				for range 1 + rand.IntN(2) { // the next manager can die, too, before it has put anything in order
					order.Hold, order.Failpoint = rand.IntN(2) == 0, ""
					if i := n % (2 * len(failpoints)); i < len(failpoints) {
						order.Failpoint = failpoints[i]
						order.Hold = false
						atFailpoints.Add(1)
					}
					c.kill(t, order, "begin", rand.N(60*time.Millisecond))
					kills.Add(1)
					torn.Add(int64(c.torn(t)))
					if _, engines := c.processes(); len(engines) > 1 {
						t.Errorf("%d engines at once", len(engines))
					}
				}
				orphans.Add(int64(c.recover(t, n%3)))
				if t.Failed() {
					t.Logf("in round %d, failpoint %q", n, order.Failpoint)
				}
			}
			c.recover(t, 2)
			torn.Add(int64(c.torn(t)))
		})
	}
	all.Wait()
	t.Logf("chaos: %d rounds of at most %d, %d managers killed (%d at failpoints): %d orphans, %d torn files",
		min(int(next.Load()), rounds), rounds, kills.Load(), atFailpoints.Load(), orphans.Load(), torn.Load())
}

// A manager that is killed over a hold leaves a held replica, whatever its engine had come to.
func TestChaosManagerKilledOverAHold(t *testing.T) {
	t.Parallel()
	c := newChaosRig(t)
	rounds, _ := chaosCount(t, "CHAOS_HOLDS", 1)
	for range rounds {
		failpoint := []string{"before_unpublish", "before_term", "after_term"}[rand.IntN(3)]
		order := c.order
		order.Held, order.Failpoint = true, failpoint
		c.kill(t, order, "", 0)
		s, err := opened(bounded(t), []provisioner.ProvisionConfig{order.config()}, order.cache())
		if err == nil {
			err = s.WaitReady(bounded(t))
		}
		if err != nil {
			t.Fatal(failpoint, err)
		}
		eventually(t, "its engine is gone", func() bool { all, _ := c.processes(); return len(all) == 0 && s.Status()[0].PID == 0 })
		wantHeld(t, s.Status()[0], failpoint)
		c.noHandoff(t)
		if err := s.Unhold(bounded(t), poolR0); err != nil {
			t.Error(failpoint, err)
		}
		untilReady(t, s, "")
		if err := s.Shutdown(bounded(t)); err != nil {
			t.Error(failpoint, err)
		}
	}
	t.Logf("chaos: %d managers killed over a hold: %d replicas held, 0 orphans", rounds, rounds)
}

// Of managers that race for one state directory, one wins.
func TestChaosManagersRace(t *testing.T) {
	t.Parallel()
	const races = 100
	first := briskly(fakeConfig(t, enginetest.Behavior{}))
	port := enginetest.FreePort(t, races)
	cache := provisioner.WithCacheDir(t.TempDir())
	p, err := provisioner.New(first, cache)
	if err == nil {
		_, err = p.Prepare(bounded(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	var winners, losers atomic.Int64
	atOnce := make(chan struct{}, 20) // a loser waits two seconds for the winner
	var all sync.WaitGroup
	for i := range races {
		cfg := first
		cfg.StateDir, cfg.Port = filepath.Join(first.Dir, "race-"+strconv.Itoa(i)), port+i
		all.Go(func() {
			atOnce <- struct{}{}
			defer func() { <-atOnce }()
			var pair sync.WaitGroup
			won := make([]*Fleet, 2)
			for k := range won {
				pair.Go(func() {
					s, err := opened(context.Background(), []provisioner.ProvisionConfig{cfg}, cache)
					switch {
					case err == nil:
						won[k] = s
						winners.Add(1)
					case errors.Is(err, provisioner.ErrLocked):
						losers.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			pair.Wait()
			if (won[0] == nil) == (won[1] == nil) {
				t.Errorf("race %d: winners %v", i, won)
			}
			for _, s := range won {
				if s != nil {
					if err := s.Shutdown(context.Background()); err != nil && !errors.Is(err, provisioner.ErrStopped) {
						t.Errorf("Stop: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
	t.Logf("chaos: %d races: %d winners, %d refused", races, winners.Load(), losers.Load())
}
