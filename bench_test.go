package provisioner

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// BENCHMARKS.md says what these measure, why, and what came out. Each reports medians of its own samples instead of
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

// BenchmarkReady measures from the moment at which the engine would answer 200 on /health to the moment at which
// WaitReady has returned and the handoff is on disk. What the engine itself takes for the token of the answer proof is
// no part of it and is reported beside it.
func BenchmarkReady(b *testing.B) {
	for _, load := range []time.Duration{50 * time.Millisecond, time.Second, 10 * time.Second} {
		b.Run("load="+load.String(), func(b *testing.B) {
			// The launches overlap, so that twenty loads of 10 s take 16 s. They begin at intervals of which no load is
			// a multiple: the start of one would disturb the end of another.
			const launches, apart = 20, 310 * time.Millisecond
			var mu sync.Mutex
			var delays, tokens samples
			cfgs := fakeConfigs(b, launches, enginetest.Behavior{LoadTime: load})
			prepared := withFacts(b, cfgs[0])
			for b.Loop() {
				var all sync.WaitGroup
				next := time.NewTicker(apart)
				for _, cfg := range cfgs {
					all.Go(func() {
						delay, token := readyDelay(b, cfg, prepared)
						mu.Lock()
						defer mu.Unlock()
						delays, tokens = append(delays, delay), append(tokens, token)
					})
					<-next.C
				}
				next.Stop()
				all.Wait()
			}
			delays.report(b, "delay")
			tokens.report(b, "token")
		})
	}
}

// readyDelay runs one launch and returns the delay without the token's time, and that.
func readyDelay(b *testing.B, cfg ProvisionConfig, prepared Option) (delay, token time.Duration) {
	p, err := New(cfg, prepared)
	if err != nil {
		b.Error(err)
		return
	}
	ctx := bounded(b)
	if err := p.Start(ctx); err != nil {
		b.Error(err)
		return
	}
	handoff, err := p.WaitReady(ctx)
	returned := time.Now()
	if err == nil {
		if _, err = os.Stat(p.run.files.Handoff()); err == nil {
			engine := enginetest.Inspect(b, handoff.URL)
			token = engine.FirstAnswer
			delay = returned.Sub(engine.ReadyAt) - token
		}
	}
	if err != nil {
		b.Error(err)
	}
	if err := p.Stop(ctx); err != nil {
		b.Error(err)
	}
	return delay, token
}

// BenchmarkStart compares Start with what it cannot be faster than, in turns: os/exec starting the same executable
// with the same arguments.
func BenchmarkStart(b *testing.B) {
	cfg := fakeConfig(b, enginetest.Behavior{})
	prepared := withFacts(b, cfg)
	plan, err := Plan(b.Context(), cfg, prepared)
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

// BenchmarkDisk is what any of them pays for one state file: two fsyncs, on this disk, now.
func BenchmarkDisk(b *testing.B) {
	path := filepath.Join(b.TempDir(), "file.json")
	data := make([]byte, 1500) // about a handoff or a record
	var write samples
	for b.Loop() {
		began := time.Now()
		if err := atomicfile.Write(path, data); err != nil {
			b.Fatal(err)
		}
		write = append(write, time.Since(began))
	}
	write.report(b, "write")
}

// BenchmarkCommand measures whole runs of the built CLI: process start, work, exit.
func BenchmarkCommand(b *testing.B) {
	if _, err := os.Stat("cmd/engine-provisioner"); err != nil {
		b.Skip("there is no CLI")
	}
	cli := filepath.Join(b.TempDir(), "engine-provisioner")
	if out, err := exec.Command("go", "build", "-o", cli, "./cmd/engine-provisioner").CombinedOutput(); err != nil {
		b.Fatalf("cannot build the CLI: %v\n%s", err, out)
	}
	cfg := fakeConfig(b, enginetest.Behavior{})
	config := filepath.Join(cfg.Dir, "pools.yaml")
	text := fmt.Sprintf("state_dir: %s\npools:\n  - {id: pool, engine: llamacpp, port: %d, gpu: none, model: {id: %q}, "+
		"provisioning: {mode: binary, binary: {path: %q}}}\n", cfg.StateDir, cfg.Port, cfg.Model.ID, cfg.Provisioning.Binary.Path)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	ready(b, cfg) // so that status has something to look at
	for _, args := range [][]string{{"version"}, {"validate", config}, {"status", "--config", config}} {
		b.Run(args[0], func(b *testing.B) {
			var wall samples
			for b.Loop() {
				began := time.Now()
				if out, err := exec.Command(cli, args...).CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				wall = append(wall, time.Since(began))
			}
			wall.report(b, "wall")
		})
	}
}

// fakeConfigs are n replicas of one pool with one executable.
func fakeConfigs(b testing.TB, n int, behavior enginetest.Behavior) []ProvisionConfig {
	first := fakeConfig(b, behavior)
	port := enginetest.FreePort(b, n)
	cfgs := make([]ProvisionConfig, n)
	for i := range cfgs {
		cfgs[i] = first
		cfgs[i].ReplicaID = fmt.Sprintf("r%d", i)
		cfgs[i].Port = port + i
	}
	return cfgs
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
