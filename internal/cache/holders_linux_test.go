package cache

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/state"
)

// Whoever has a lock of a provisioner that is gone is ended by its mark alone, and only where nobody else has the lock.
func TestEndHoldersSparesStrangers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.lock")
	lock, err := state.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	holder := func(env ...string) (*exec.Cmd, <-chan struct{}) {
		t.Helper()
		cmd := exec.Command("sleep", "600")
		cmd.Env, cmd.ExtraFiles = env, []*os.File{lock.Share()}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
		return cmd, ended
	}
	stranger, gone := holder()
	marked, _ := holder(proc.MarkEnv + "=" + proc.NewMark())
	lock.Release()
	if n, err := endHolders(path); n != 0 || err != nil || !alive(marked.Process.Pid) || !alive(stranger.Process.Pid) {
		t.Errorf("ended %d beside a stranger (%v)", n, err)
	}
	_ = stranger.Process.Kill()
	<-gone
	// Another test's child may have a copy of the lock until its exec.
	for deadline := time.Now().Add(time.Minute); alive(marked.Process.Pid); time.Sleep(2 * time.Millisecond) {
		if _, err := endHolders(path); err != nil || time.Now().After(deadline) {
			t.Fatalf("the marked one is not ended: %v", err)
		}
	}
}

func alive(pid int) bool {
	s, err := procfs.ReadStat(pid)
	return err == nil && !s.Dead()
}
