//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"
)

// A worker is a process that starts and stops engines, and does what it is told on its standard input.

// starter is what is measured.
type starter interface {
	// start starts n replicas and returns when all are ready.
	start(ctx context.Context, n int) error
	// recover takes charge of n ready replicas of a worker that is gone, or at least looks whether they are healthy.
	recover(ctx context.Context, n int) error
	// crash kills the engine of the first replica and returns how long it took until another was started.
	crash(ctx context.Context) (time.Duration, error)
	// ready starts replica i alone, and stops it. It returns how long after the engine was ready that was known.
	ready(ctx context.Context, i int) (time.Duration, error)
	stop(ctx context.Context) error
}

// order is what a worker is told to do.
type order struct {
	Do   string
	N    int           `json:",omitzero"`
	Idle time.Duration `json:",omitzero"`
}

// report is what came out.
type report struct {
	Took    time.Duration   // by the clock
	CPU     time.Duration   // of the worker, for this order
	All     time.Duration   // its CPU since its first order
	Threads int             // at the end
	Bytes   int64           // of heap and stacks at the end, where it was asked for
	Values  []time.Duration `json:",omitzero"`
	Err     string          `json:",omitzero"`
}

// patience is how long an order may take, on a busy machine too.
const patience = 3 * time.Minute

func work(text string) error {
	var s setup
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	var by starter = &ours{setup: s}
	if s.Bare {
		by = &bare{setup: s}
	}
	first, in, out := cpuTime(), json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var r report
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		began, used := time.Now(), cpuTime()
		profiled, err := s.profile(o.Do)
		if err == nil {
			err = perform(ctx, by, o, &r)
			profiled()
		}
		r.Took, r.CPU, r.All = time.Since(began), cpuTime()-used, cpuTime()-first
		cancel()
		if err != nil {
			r.Err = err.Error()
		}
		threads, _ := os.ReadDir("/proc/self/task")
		r.Threads = len(threads)
		if o.Do == "memory" {
			r.Bytes = memory()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// profile begins a CPU profile of an order to the library, where one is wanted.
func (s setup) profile(order string) (end func(), err error) {
	if s.Profiles == "" || s.Bare {
		return func() {}, nil
	}
	file, err := os.Create(filepath.Join(s.Profiles, fmt.Sprintf("%s-%d.pprof", order, os.Getpid())))
	if err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); file.Close() }, pprof.StartCPUProfile(file)
}

func perform(ctx context.Context, by starter, o order, r *report) error {
	switch o.Do {
	case "start":
		return by.start(ctx, o.N)
	case "recover":
		return by.recover(ctx, o.N)
	case "crash":
		took, err := by.crash(ctx)
		r.Values = append(r.Values, took)
		return err
	case "ready":
		return readyOften(ctx, by, o.N, r)
	case "stop":
		return by.stop(ctx)
	case "idle":
		time.Sleep(o.Idle)
		return nil
	case "memory":
		return nil
	}
	return fmt.Errorf("unknown order %q", o.Do)
}

// apart is the time between two launches of readyOften. No load is a multiple of it, so that the start of one does not
// disturb the end of another.
const apart = 620 * time.Millisecond

// readyOften starts n engines one after the other. Their loads overlap.
func readyOften(ctx context.Context, by starter, n int, r *report) error {
	r.Values = make([]time.Duration, n)
	errs := make(chan error, n)
	for i := range n {
		go func() {
			var err error
			r.Values[i], err = by.ready(ctx, i)
			errs <- err
		}()
		time.Sleep(apart)
	}
	var all error
	for range n {
		all = errors.Join(all, <-errs)
	}
	return all
}

// memory is what heap and stacks take when nothing is to be collected.
func memory() int64 {
	runtime.GC()
	runtime.GC() // the first one only runs finalizers of what the second one frees
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// cpuTime is what this process has used, without its children.
func cpuTime() time.Duration {
	var use unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &use) // it cannot fail
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// worker is such a process, seen from outside.
type worker struct {
	lab *lab
	pid int
	in  *os.File
	out *bufio.Reader
	own []*os.File
}

func (l *lab) worker(s setup) (*worker, error) {
	theirs, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "worker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	defer theirs.Close()
	defer theirOut.Close()
	w := &worker{lab: l, in: in, out: bufio.NewReader(out), own: []*os.File{in, out}}
	w.pid, err = l.children.start(l.self, []string{l.self, workerMark, s.String()}, []*os.File{theirs, theirOut, log})
	return w, err
}

// do tells the worker to do something and returns what came out.
func (w *worker) do(o order) (report, error) {
	var r report
	if err := json.NewEncoder(w.in).Encode(o); err != nil {
		return r, err
	}
	line, err := w.out.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("worker, %s: %w", o.Do, err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, err
	}
	if r.Err != "" {
		return r, fmt.Errorf("%s: %s", o.Do, r.Err)
	}
	return r, nil
}

// end lets the worker end, which has nothing left to do; kill ends it as it is.
func (w *worker) end() { w.close() }

func (w *worker) kill() {
	_ = unix.Kill(w.pid, unix.SIGKILL)
	w.close()
}

func (w *worker) close() {
	for _, f := range w.own {
		_ = f.Close()
	}
	w.lab.children.wait(w.pid)
}
