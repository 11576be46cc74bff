package provisioner

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// Parts of what scripts/bench measures; BENCHMARKS.md says why. Each reports medians of its own samples instead of
// ns/op, because its loop also starts and stops engines.

// samples are measured durations.
type samples []time.Duration

// report tells the median and the 90th percentile, in milliseconds.
func (s samples) report(b *testing.B, name string) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // leaves the line out
	slices.Sort(s)
	ms := func(percent int) float64 { return float64(s[len(s)*percent/100]) / float64(time.Millisecond) }
	b.ReportMetric(ms(50), "ms-"+name)
	b.ReportMetric(ms(90), "ms-"+name+"-p90")
}

// BenchmarkStart compares Start with what it cannot be faster than, in turns: os/exec starting the same executable
// with the same arguments.
func BenchmarkStart(b *testing.B) {
	cfg := fakeConfig(b, enginetest.Behavior{})
	prepared := withFacts(b, cfg)
	plan, err := planOf(b.Context(), cfg, prepared)
	if err != nil {
		b.Fatal(err)
	}
	var bare, start, difference samples
	for b.Loop() {
		cmd := exec.Command(plan.Binary, plan.Args()...)
		began := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(began))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		p, err := New(cfg, prepared)
		if err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		if err := p.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		start = append(start, time.Since(began))
		difference = append(difference, start[len(start)-1]-bare[len(bare)-1])
		if err := p.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	bare.report(b, "exec")
	start.report(b, "start")
	difference.report(b, "more")
}

// BenchmarkDisk is what any of them pays for one state file: an fsync, on this disk, now.
func BenchmarkDisk(b *testing.B) {
	path := filepath.Join(b.TempDir(), "file.json")
	data := make([]byte, 1500) // about a handoff or a record
	var write samples
	for b.Loop() {
		began := time.Now()
		if err := atomicfile.Replace(path, data); err != nil {
			b.Fatal(err)
		}
		write = append(write, time.Since(began))
	}
	write.report(b, "write")
}

// withFacts prepares cfg and returns the option with which later launches know its executable already.
func withFacts(b *testing.B, cfg ProvisionConfig) Option {
	cache := WithCacheDir(b.TempDir())
	p, err := New(cfg, cache)
	if err == nil {
		_, err = p.Prepare(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	return cache
}
