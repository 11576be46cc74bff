package tool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// runInto runs a command and copies what it prints until it ends. The end of the pipe is not waited for, since a child of the
// executable may hold it open; and os/exec's WaitDelay would cut a help short where a busy machine reads it late.
func runInto(ctx context.Context, out *limitedBuffer, build func() *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	var cmd *exec.Cmd
	err = proc.StartFresh(func() error {
		cmd = build()
		cmd.Stdout, cmd.Stderr = w, w
		return proc.Start(cmd)
	})
	w.Close()
	if err != nil {
		return err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(out, r) // to its end, or to the deadline
	}()
	err = proc.Wait(ctx, cmd)
	_ = r.SetReadDeadline(time.Now())
	<-copied
	readRest(out, r)
	return err
}

// readRest copies what is in the pipe now: all that a process printed which has ended.
func readRest(out *limitedBuffer, pipe *os.File) {
	_ = pipe.SetReadDeadline(time.Time{})
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		buf := make([]byte, 64<<10)
		for range 64 { // more than a pipe holds, should a child go on printing
			n, err := syscall.Read(int(fd), buf)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if n <= 0 {
				break
			}
			_, _ = out.Write(buf[:n])
		}
		return true
	})
}

// limitedBuffer keeps the first MiB; a help is 155 kB at most (vLLM). The buffer is not embedded: its ReadFrom, which
// io.Copy prefers, knows no limit.
type limitedBuffer struct{ buf bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	const limit = 1 << 20
	if room := limit - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func (b *limitedBuffer) String() string { return b.buf.String() }
