package provisioner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
)

var errCaller = errors.New("the caller has gone")

func gone() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errCaller)
	return ctx
}

// Whoever ends a context is told of that, and not of what it has broken off: a cut short question to the executable is
// no missing library, and a deadline of the caller's own no lack of memory.
func TestEndOfAContextIsNoFaultOfTheEngine(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(context.Context, *EngineProvisioner) error{
		"Start":   func(ctx context.Context, p *EngineProvisioner) error { return p.Start(ctx) },
		"Prepare": func(ctx context.Context, p *EngineProvisioner) error { _, err := p.Prepare(ctx); return err },
		"Plan": func(ctx context.Context, p *EngineProvisioner) error {
			_, err := planOf(ctx, p.cfg, WithCacheDir(p.opts.supply.dir))
			return err
		},
		"Inspect": func(ctx context.Context, p *EngineProvisioner) error {
			_, err := inspect(ctx, p.cfg, WithCacheDir(p.opts.supply.dir))
			return err
		},
	} {
		for _, cause := range []error{errCaller, context.DeadlineExceeded} {
			t.Run(name+" "+cause.Error(), func(t *testing.T) {
				t.Parallel()
				cfg := fakeConfig(t, enginetest.Behavior{})
				pipe := filepath.Join(t.TempDir(), "pipe")
				if err := syscall.Mkfifo(pipe, 0o600); err != nil {
					t.Fatal(err)
				}
				script(t, &cfg, "exec cat '"+pipe+"'") // its version is never said
				p, _ := newLaunch(t, cfg)
				ctx, cancel := context.WithCancelCause(bounded(t))
				defer cancel(nil)
				failed := make(chan error, 1)
				go func() { failed <- call(ctx, p) }()
				w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // returns when the script reads
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				cancel(cause)
				err = <-failed
				start, ok := errors.AsType[*StartError](err)
				if !ok || !errors.Is(err, cause) {
					t.Fatalf("%s: %v", name, err)
				}
				if start.Cause != engine.CauseUnknown || !start.Retry || start.Advice != "" || start.Replica != cfg.Name() {
					t.Errorf("%+v", start.Failure)
				}
				if strings.Contains(err.Error(), "cannot run") {
					t.Errorf("it is told what was broken off: %v", err)
				}
			})
		}
	}
}

func TestFailureOfAnyError(t *testing.T) {
	t.Parallel()
	want := Failure{Replica: "chat/r0", Cause: engine.CauseOOMGPU, Advice: "use less", Retry: true}
	for _, err := range []error{
		&StartError{Failure: want, Err: errors.New("x")}, &ExitError{Failure: want}, &NotReadyError{Failure: want},
	} {
		var got *Failure
		if !errors.As(errors.Join(errors.New("other"), err), &got) || got.Cause != want.Cause || got.Replica != want.Replica {
			t.Errorf("%T: %+v", err, got)
		}
		if text := "chat/r0: failed [oom_gpu]; use less"; got.Error() != text {
			t.Errorf("%q, want %q", got.Error(), text)
		}
	}
	var none *Failure
	if errors.As(errors.Join(&ConfigError{}, &GPUError{Err: ErrNoGPU}, errors.New("x")), &none) {
		t.Errorf("found %+v", none)
	}
}
