package provisioner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
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

// keep keeps engines alive until ctx ends, and follows changes of their configuration.
func keep(
	ctx context.Context, cfgs []provisioner.ProvisionConfig, changed <-chan provisioner.ProvisionConfig, opts ...provisioner.Option,
) error {
	engines, err := provisioner.Supervise(ctx, cfgs, opts...)
	if err != nil {
		return err // a *ConfigError, or a *LockedError: another manager has the state directory
	}
	for {
		select {
		case cfg := <-changed:
			if err := engines.Reload(ctx, cfg); err != nil && ctx.Err() == nil {
				fmt.Println(err) // also says whether the old settings are back
			}
		case <-ctx.Done():
			return engines.Stop(context.Background()) // Release leaves the engines to the next manager
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

// A supervisor keeps an engine alive.
func ExampleSupervise() {
	cfg, cache, remove, err := fakeEngine()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()

	ctx, cancel := context.WithCancel(context.Background())
	changed := make(chan provisioner.ProvisionConfig, 1)
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
		changed <- other
	}
	err = keep(ctx, []provisioner.ProvisionConfig{cfg}, changed, provisioner.WithEventFunc(told), provisioner.WithCacheDir(cache))
	fmt.Println("launches:", launches)
	fmt.Println("stopped:", err)
	// Output:
	// launches: 2
	// stopped: <nil>
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
		PoolID: "demo", ReplicaID: "r0", Engine: "llamacpp", Port: port, GPU: provisioner.GPUNone,
		Model:    provisioner.ModelConfig{ID: filepath.Join(dir, "model.gguf")},
		StateDir: filepath.Join(dir, "state"),
		Provisioning: provisioner.Provisioning{
			Binary: &provisioner.BinaryConfig{Path: filepath.Join(dir, "llama-server")},
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
