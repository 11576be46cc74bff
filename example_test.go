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
		os.WriteFile(cfg.Model.ID, []byte("GGUF"), 0o600),
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
