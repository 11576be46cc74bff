package usage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/port"
	"github.com/llama-orch/engine-provisioner/internal/probe"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

const (
	// patience is how long an engine may take with all its answers, or a driver with its one. One that is saturated says nothing of its requests, and
	// nobody who looks at a table waits for it.
	patience = time.Second
	// atOnce is how many engines are asked at once.
	atOnce = 64
)

// Replica names a replica, as package provisioner's ReplicaID does.
type Replica struct{ Pool, Replica string }

// Meter measures the launches of one state directory. It remembers what it measured of late, by which it tells rates: who wants
// those keeps one, and asks it again and again. Its methods are safe for concurrent use; one measurement waits for another.
type Meter struct {
	state string
	gpus  gpu.Driver

	mu       sync.Mutex // held during a measurement
	launches map[Replica]*launch
	files    map[Replica]state.Files // which decode a record once
}

// NewMeter makes a meter of a state directory ("" means .runtime). It looks at nothing yet.
func NewMeter(stateDir string) (*Meter, error) {
	dir, err := state.Dir(stateDir)
	if err != nil {
		return nil, err
	}
	return &Meter{state: dir, gpus: gpu.Node(), launches: map[Replica]*launch{}, files: map[Replica]state.Files{}}, nil
}

// launch is one launch that is measured.
type launch struct {
	rec     record
	tree    *proc.Tree
	ask     *probe.Prober
	loading bool
	noSlots bool // the engine does not serve them
	samples samples
}

// Measure measures the launches that these replicas have now. What it returns is in their order; nil stands for one of which
// no process runs. Questions take up to a second for each 64 engines, and ctx ends them early: of one that does not
// answer, the rest is told. The error joins what is wrong with records, and why processes cannot be listed.
func (m *Meter) Measure(ctx context.Context, replicas []Replica) ([]*Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var failed error
	all := make([]*Usage, len(replicas))
	launches := make([]*launch, len(replicas))
	members := make([][]procfs.Stat, len(replicas))
	for i, r := range replicas {
		l, err := m.find(r)
		if l != nil && err == nil {
			members[i], err = l.tree.Recent()
		}
		switch {
		case errors.Is(err, errors.ErrUnsupported): // processes cannot be listed on this system, and the engine can be asked
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("cannot measure %s/%s: %w", r.Pool, r.Replica, err))
			continue
		case len(members[i]) == 0:
			continue
		}
		launches[i], all[i] = l, ofProcesses(members[i])
	}
	m.measureGPUs(ctx, launches, members, all)
	var asking sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for i, l := range launches {
		if l == nil {
			continue
		}
		asking.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if !l.loading {
				l.question(ctx, all[i])
			}
			l.samples.add(all[i])
			if l.loading {
				all[i].Load = l.load(all[i])
			}
		})
	}
	asking.Wait()
	return all, failed
}

// find finds what is known of the launch that a replica has now; nil when none runs.
func (m *Meter) find(r Replica) (*launch, error) {
	files, known := m.files[r]
	if !known {
		files = state.In(m.state, state.Stem(r.Pool, r.Replica))
		m.files[r] = files
	}
	rec, err := readRecord(files)
	if err != nil || rec.over() {
		delete(m.launches, r)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	l := m.launches[r]
	if l == nil || l.rec.LaunchID != rec.LaunchID {
		l = &launch{
			tree: &proc.Tree{
				Mark: rec.LaunchID, Group: cgroup.Open(rec.Cgroup), Past: proc.Past{PID: rec.Process.PID, Log: rec.Log},
				Since: rec.Process.Began(), Leader: rec.Process,
			},
			ask: probe.New(port.Loopback(rec.Host), rec.Port, rec.key(), patience),
		}
		m.launches[r] = l
	}
	l.rec = rec
	l.loading = rec.State == starting && !rec.Withdrawn && !access.Exists(files.Handoff())
	return l, nil
}

func ofProcesses(members []procfs.Stat) *Usage {
	u := &Usage{Time: time.Now(), Processes: len(members)}
	for _, p := range members {
		u.CPUSeconds += p.CPU().Seconds()
		u.Memory += p.RSS()
	}
	return u
}
