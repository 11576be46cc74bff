package provisioner

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/enginetest"
)

// BenchmarkStop measures from the engine's exit, as the kernel tells it to a thread that does nothing but wait for it,
// to the return of Stop: sweep, reaping, the checks of tree and port, the files.
func BenchmarkStop(b *testing.B) {
	cfg := fakeConfig(b, enginetest.Behavior{})
	prepared := withFacts(b, cfg)
	var after samples
	for b.Loop() {
		p, _ := ready(b, cfg, prepared)
		exited := make(chan time.Time)
		fd, err := unix.PidfdOpen(p.run.host().Leader.PID, 0)
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for n := 0; n != 1; {
				n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			}
			exited <- time.Now()
		}()
		if err := p.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		stopped := time.Now()
		after = append(after, stopped.Sub(<-exited))
		_ = unix.Close(fd)
	}
	after.report(b, "after-exit")
}

// BenchmarkFleet starts, watches and stops 100 replicas at once. What it costs is what this very process costs, as the
// engines are processes of their own.
func BenchmarkFleet(b *testing.B) {
	const replicas, idle = 100, 5 * time.Second
	cfgs := fakeConfigs(b, replicas, enginetest.Behavior{})
	prepared := withFacts(b, cfgs[0])
	var start, wait, stop samples
	for b.Loop() {
		before, whole := memory(), cpuTime(b)
		fleet := make([]*EngineProvisioner, replicas)
		start = append(start, together(b, replicas, func(i int) (err error) {
			if fleet[i], err = New(cfgs[i], prepared); err != nil {
				return err
			}
			return fleet[i].Start(b.Context())
		}))
		wait = append(wait, together(b, replicas, func(i int) error {
			_, err := fleet[i].WaitReady(b.Context())
			return err
		}))
		b.ReportMetric(float64(memory()-before)/1000/replicas, "KB/replica")
		used, began := cpuTime(b), time.Now()
		time.Sleep(idle)
		b.ReportMetric(100*float64(cpuTime(b)-used)/float64(time.Since(began)), "%-of-a-core-idle")
		b.ReportMetric(float64(threads(b)), "threads-idle")
		stop = append(stop, together(b, replicas, func(i int) error { return fleet[i].Stop(context.Background()) }))
		b.ReportMetric(float64(threads(b)), "threads-at-most") // Go keeps every thread that it has once needed
		b.ReportMetric(float64((cpuTime(b)-whole).Microseconds())/1000/replicas, "ms-cpu/replica")
	}
	start.report(b, "start")
	wait.report(b, "ready")
	stop.report(b, "stop")
}

// together runs do(0) to do(n-1) at the same time and returns how long they took.
func together(b *testing.B, n int, do func(int) error) time.Duration {
	var all sync.WaitGroup
	began := time.Now()
	for i := range n {
		all.Go(func() {
			if err := do(i); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

// memory is what heap and stacks take when nothing is to be collected.
func memory() int64 {
	runtime.GC()
	runtime.GC() // the first one only runs finalizers of what the second one frees
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func cpuTime(b *testing.B) time.Duration {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func threads(b *testing.B) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	return len(entries)
}

// BenchmarkRecover measures what a new manager takes to adopt ten replicas of one that was killed: from the call to
// the launches in its hands.
func BenchmarkRecover(b *testing.B) {
	const replicas = 10
	cfgs := fakeConfigs(b, replicas, enginetest.Behavior{})
	prepared := withFacts(b, cfgs[0])
	for _, cfg := range cfgs {
		p, err := New(cfg, prepared)
		if err == nil {
			err = p.Start(bounded(b))
		}
		if err == nil {
			_, err = p.WaitReady(bounded(b))
		}
		if err != nil {
			b.Fatal(err)
		}
		p.Release()
		go func() { _, _ = p.run.host().Leader.Child().Wait() }() // the adopters are not its parent
	}
	var took samples
	adopt := func() []*EngineProvisioner {
		began := time.Now()
		adopted, found, err := Recover(b.Context(), cfgs[0].StateDir)
		took = append(took, time.Since(began))
		if err != nil || len(adopted) != replicas {
			b.Fatalf("adopted %d: %+v (%v)", len(adopted), found, err)
		}
		return adopted
	}
	for b.Loop() {
		for _, p := range adopt() {
			p.Release()
		}
	}
	took.report(b, "recover")
	for _, p := range adopt() {
		if err := p.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkCrash measures from the end of an engine that was killed, as BenchmarkStop sees it, to the end of its handoff.
func BenchmarkCrash(b *testing.B) {
	cfg := fakeConfig(b, enginetest.Behavior{})
	prepared := withFacts(b, cfg)
	var after samples
	for b.Loop() {
		p, _ := ready(b, cfg, prepared)
		fd, err := unix.PidfdOpen(p.run.host().Leader.PID, 0)
		if err != nil {
			b.Fatal(err)
		}
		exited := make(chan time.Time)
		go func() {
			for n := 0; n != 1; {
				n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			}
			exited <- time.Now()
		}()
		if err := p.run.host().Leader.Signal(unix.SIGKILL); err != nil {
			b.Fatal(err)
		}
		seen := <-exited
		for _, err := os.Lstat(p.run.files.Handoff()); err == nil; _, err = os.Lstat(p.run.files.Handoff()) {
			time.Sleep(50 * time.Microsecond)
		}
		after = append(after, time.Since(seen))
		_ = unix.Close(fd)
		<-p.Done()
	}
	after.report(b, "handoff-gone")
}

// BenchmarkSupervised keeps 200 replicas alive. What it costs is what this very process costs.
func BenchmarkSupervised(b *testing.B) {
	const replicas, idle = 200, 10 * time.Second
	cfgs := fakeConfigs(b, replicas, enginetest.Behavior{})
	prepared := withFacts(b, cfgs[0])
	for b.Loop() {
		s, err := Supervise(b.Context(), cfgs, prepared)
		if err != nil {
			b.Fatal(err)
		}
		// Not WaitReady: with 200 starts at once on few cores an engine can be too slow, and is started again.
		for all := false; !all; time.Sleep(100 * time.Millisecond) {
			all = !slices.ContainsFunc(s.Status(), func(now Status) bool { return now.State != StateReady })
		}
		time.Sleep(2 * time.Second) // what follows readiness: a look at who has mapped shared memory
		used, began := cpuTime(b), time.Now()
		time.Sleep(idle)
		b.ReportMetric(100*float64(cpuTime(b)-used)/float64(time.Since(began)), "%-of-a-core-idle")
		b.ReportMetric(float64(threads(b)), "threads-idle")
		if err := s.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(0, "ns/op")
}
