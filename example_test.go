package provisioner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/fleet"
	"github.com/llama-orch/engine-provisioner/settings"
)

// serve runs one engine until ctx ends.
func serve(ctx context.Context, cfg provisioner.ProvisionConfig, opts ...provisioner.Option) error {
	engine, err := provisioner.New(cfg, opts...)
	if err != nil {
		return err // a *ConfigError: everything that is wrong with cfg
	}
	if err := engine.Start(ctx); err != nil {
		return err // nothing is left behind
	}
	handoff, err := engine.WaitReady(ctx)
	if err == nil {
		fmt.Println(handoff.PoolID, "is ready:", handoff.Engine, handoff.EngineVersion)
		select {
		case <-ctx.Done():
		case <-engine.Done(): // it died, and Err says of what
			err = engine.Err()
		}
	}
	return errors.Join(err, engine.Stop(context.Background()))
}

// keep keeps engines alive until ctx ends, and applies each changed configuration.
func keep(
	ctx context.Context, cfgs []provisioner.ProvisionConfig, changed <-chan []provisioner.ProvisionConfig, o fleet.Options,
) error {
	engines, err := fleet.Open(ctx, o, cfgs...)
	if err != nil {
		return err // a *ConfigError, or a *LockedError: another manager has the state directory
	}
	for {
		select {
		case cfgs := <-changed:
			results, err := engines.Apply(ctx, cfgs) // stops, reloads and starts what differs
			for _, r := range results {
				err = errors.Join(err, r.Err) // also says whether the old settings are back
			}
			if err != nil && ctx.Err() == nil {
				fmt.Println(err)
			}
		case <-ctx.Done():
			return engines.Shutdown(context.Background()) // Release leaves the engines to the next manager
		}
	}
}

// An engine is started and stopped. What is run here is the fake engine of package enginetest.
func Example() {
	cfg, cache, remove, err := fakeEngine()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()

	ctx, cancel := context.WithCancel(context.Background())
	ready := func(e provisioner.Event) {
		if e.State == provisioner.StateReady {
			cancel() // this example has seen enough
		}
	}
	err = serve(ctx, cfg, provisioner.WithEventFunc(ready), provisioner.WithCacheDir(cache))
	fmt.Println("stopped:", err)
	// Output:
	// demo is ready: llamacpp b11669-Fake
	// stopped: <nil>
}

// A fleet keeps an engine alive.
func Example_fleet() {
	cfg, cache, remove, err := fakeEngine()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()

	ctx, cancel := context.WithCancel(context.Background())
	changed := make(chan []provisioner.ProvisionConfig, 1)
	launches := 0
	told := func(e provisioner.Event) {
		if e.Kind != provisioner.EventState || e.State != provisioner.StateReady {
			return
		}
		if launches++; launches == 2 {
			cancel() // this example has seen enough
			return
		}
		other := cfg
		other.Flags = []string{"--ctx-size", "512"}
		changed <- []provisioner.ProvisionConfig{other}
	}
	err = keep(ctx, []provisioner.ProvisionConfig{cfg}, changed, fleet.Options{
		OnEvent: told, Launch: []provisioner.Option{provisioner.WithCacheDir(cache)},
	})
	fmt.Println("launches:", launches)
	fmt.Println("stopped:", err)
	// Output:
	// launches: 2
	// stopped: <nil>
}

// Whatever the kind of an engine's error, its cause and advice are found the same way.
func ExampleFailure() {
	explain := func(err error) {
		var failure *provisioner.Failure
		switch {
		case errors.As(err, &failure) && failure.Retry:
			fmt.Println("later:", failure.Cause)
		case errors.As(err, &failure):
			fmt.Println("never:", failure.Cause)
		default:
			fmt.Println(err)
		}
	}
	explain(&provisioner.ExitError{Code: 1, Failure: provisioner.Failure{Cause: engine.CauseOOMGPU, Retry: true}})
	explain(&provisioner.StartError{Failure: provisioner.Failure{Cause: engine.CauseModelMissing}})
	explain(&provisioner.GPUError{Err: provisioner.ErrNoGPU, Advice: "see nvidia-smi"})
	// Output:
	// later: oom_gpu
	// never: model_missing
	// cannot use the GPU: no usable GPU; see nvidia-smi
}

// All that is wrong with a pools file comes back at once.
func ExampleParseConfig() {
	_, err := provisioner.ParseConfig([]byte(`
pools:
  - id: chat
    engine: llamacpp
    port: 80810
    model: {id: "/models/chat.gguf"}
    gpus: none
`), "pools.yaml")
	var config *provisioner.ConfigError
	if errors.As(err, &config) {
		for _, p := range config.Problems {
			fmt.Printf("line %d, %s: %s\n", p.Line, p.Key, p.Message)
		}
	}
	// Output:
	// line 5, pools[0].port: must be from 1 to 65535, is 80810
	// line 7, pools[0].gpus: unknown key "gpus"; did you mean "gpu"?
}

func ExampleNormalizeFlags() {
	fmt.Println(provisioner.NormalizeFlags("llamacpp", []string{"-ngl", "99", "--ctx_size=4096"}))
	fmt.Println(provisioner.NormalizeFlags("vllm", []string{"--gpu-mem", "0.8", "--max_model_len=4096"}))
	// Output:
	// [--n-gpu-layers 99 --ctx-size 4096]
	// [--gpu-memory-utilization 0.8 --max-model-len=4096]
}

// A router follows which replicas are ready. It needs no other contact with the program that manages them.
func ExampleWatchHandoffs() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events, err := provisioner.WatchHandoffs(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	// A provisioner does this when a replica is ready, and removes the file when it is not any more.
	file := filepath.Join(dir, "chat-r0.json")
	temporary := file + ".new"
	handoff := `{"url": "http://127.0.0.1:8081", "pool_id": "chat", "replica_id": "r0"}`
	if err := errors.Join(os.WriteFile(temporary, []byte(handoff), 0o600), os.Rename(temporary, file)); err != nil {
		fmt.Println(err)
		return
	}

	backends := map[string]string{} // URLs by file
	for e := range events {
		switch {
		case e.Err != nil: // it cannot be read
			fmt.Println(e.Err)
		case e.Removed:
			delete(backends, e.Path)
			fmt.Println(e.Handoff.PoolID, "has", len(backends), "replicas")
			cancel() // this example has seen enough
		default:
			backends[e.Path] = e.Handoff.URL
			fmt.Println(e.Handoff.PoolID, "has", len(backends), "replicas")
			if err := os.Remove(file); err != nil {
				fmt.Println(err)
			}
		}
	}
	// Output:
	// chat has 1 replicas
	// chat has 0 replicas
}

// fakeEngine describes a replica that can be run anywhere.
func fakeEngine() (cfg provisioner.ProvisionConfig, cache string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		return cfg, "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	exe, err := os.Executable()
	if err != nil {
		return cfg, "", remove, err
	}
	var reserved exampleTB
	port := enginetest.FreePort(&reserved, 1)
	remove = func() { reserved.end(); _ = os.RemoveAll(dir) }
	cfg = provisioner.ProvisionConfig{
		PoolID: "demo", ReplicaID: "r0", Engine: "llamacpp", Port: port, GPU: engine.GPUNone,
		Model:    settings.Model{ID: filepath.Join(dir, "model.gguf")},
		StateDir: filepath.Join(dir, "state"),
		Provisioning: settings.Provisioning{
			Binary: &settings.Binary{Path: filepath.Join(dir, "llama-server")},
		},
	}
	err = errors.Join(
		os.WriteFile(cfg.Model.ID, []byte(enginetest.GGUF), 0o600),
		enginetest.InstallAt(cfg.Provisioning.Binary.Path, exe, enginetest.Behavior{}),
	)
	return cfg, filepath.Join(dir, "cache"), remove, err
}

// exampleTB is as much of a test as FreePort needs: an example has none.
type exampleTB struct {
	testing.TB
	end func()
}

func (*exampleTB) Helper()                           {}
func (tb *exampleTB) Cleanup(release func())         { tb.end = release }
func (*exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
