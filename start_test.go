package provisioner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/binary"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/tool"
)

// startCutShort runs a Start whose context ends when the launch notes something for the first time.
func startCutShort(t *testing.T, cfg ProvisionConfig, atNote func()) (*EngineProvisioner, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(bounded(t))
	p, err := New(cfg, WithCacheDir(t.TempDir()), WithEventFunc(func(e Event) {
		if e.Kind == EventNote {
			atNote()
			cancel()
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return p, p.Start(ctx)
}

// A start that is cut short when the engine runs already leaves nothing but the log.
func TestStartCutShort(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{Children: []enginetest.Child{{Kind: enginetest.NewSession}}})
	files, err := filesOf(cfg.StateDir, cfg.fileStem())
	// The damaged record is noted before the engine is started.
	if err := errors.Join(err, files.Create(), os.WriteFile(files.Record(), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p, err := startCutShort(t, cfg, func() {})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Start: %v", err)
	}
	rec, err := readRecord(files)
	if err != nil || rec.State != StateFailed || rec.Process.PID == 0 {
		t.Fatalf("the record says %+v (%v)", rec, err)
	}
	if names, err := (&proc.Tree{Mark: rec.LaunchID}).Survivors(); names != "" || err != nil {
		t.Errorf("processes left: %s (%v)", names, err)
	}
	for _, path := range []string{files.PID(), rec.TempDir} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v)", path, err)
		}
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// What a failed start could not put away is told by Start, also when its context has ended, and by Stop.
func TestStartCannotCleanUp(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	files, err := filesOf(cfg.StateDir, cfg.fileStem())
	// That the PID file cannot be written is noted when the engine runs.
	if err := errors.Join(err, files.Create(), os.MkdirAll(filepath.Join(files.PID(), "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	p, err := startCutShort(t, cfg, func() {
		if err := errors.Join(os.Remove(files.Record()), os.MkdirAll(filepath.Join(files.Record(), "x"), 0o700)); err != nil {
			t.Error(err)
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v", err)
	}
	wantText(t, err, "cannot write", files.Record())
	wantText(t, p.Stop(bounded(t)), "cannot write", files.Record())
}

// A machine that is full for the moment is no broken executable.
func TestStartErrorOfAFullMachine(t *testing.T) {
	t.Parallel()
	p := newProvisioner(fakeConfig(t, enginetest.Behavior{}), newOptions(nil))
	for _, errno := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE} {
		var start *StartError
		err := p.startError(&binary.Error{Err: &fs.PathError{Op: "fork/exec", Path: "/engine", Err: errno}})
		if !errors.As(err, &start) || start.Cause != engine.CauseUnknown || !start.Retry || start.Advice == "" {
			t.Errorf("%v: %+v", errno, err)
		}
	}
	var start *StartError
	if err := p.startError(&tool.AskError{Err: context.DeadlineExceeded}); !errors.As(err, &start) || start.Cause != engine.CauseUnknown || !start.Retry {
		t.Errorf("an executable that does not answer: %+v", err)
	}
	deaf := p.startError(&tool.AskError{Args: "/engine --version", Err: errors.Join(context.DeadlineExceeded, errors.New("signal: killed")), Took: time.Minute})
	wantText(t, deaf, `"/engine --version" did not answer within 1m0s; is it this engine's executable?`)
	if strings.Contains(deaf.Error(), "signal") || strings.Contains(deaf.Error(), "\n") {
		t.Error(deaf)
	}
}
