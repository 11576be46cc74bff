// Package hook performs what an operator wants done before an engine is drained: a command, or a request over HTTP. Each
// is done when its call returns, with nothing left of its process group.
//
// Whoever drains an engine calls it. It knows no engine and no configuration: secrets are in what it is given, and what it
// gives back has gone through the caller's function that takes them out.
package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// words is how much of an output or an answer is kept, from its end: enough for the reason.
const words = 4 << 10

// Command is a program with its arguments. Its name is looked up in PATH, or is a path, relative to Dir.
type Command struct {
	Argv []string
	Dir  string
	Env  []string
	Hide func(text string) string // takes out what must not be seen
}

// Run runs the command until it ends or ctx does.
func (c Command) Run(ctx context.Context) error {
	path := c.Argv[0]
	switch found, err := exec.LookPath(path); {
	case filepath.IsAbs(path):
	case strings.ContainsRune(path, os.PathSeparator):
		path = filepath.Join(c.Dir, path)
	case err != nil:
		return fmt.Errorf("cannot find the program %q in PATH; write its path", path)
	default:
		path = found
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	p, err := proc.StartSession(proc.Command{Path: path, Args: c.Argv[1:], Env: c.Env, Dir: c.Dir, Log: in})
	in.Close()
	if err != nil {
		return fmt.Errorf("cannot run the program %q: %w", path, err)
	}
	said := &lastBytes{limit: words}
	read := make(chan struct{})
	go func() { _, _ = io.Copy(said, out); close(read) }()

	late := p.Wait(ctx)
	// Until it is reaped, the number of the group is its own and no stranger's.
	_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	if late != nil {
		killed, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		unkillable := p.Wait(killed)
		cancel()
		if unkillable != nil {
			go p.Reap() // a program that hangs in the kernel must not hang the stop
			out.Close()
			<-read
			return &saidError{late, said.last(c.Hide)}
		}
	}
	status := p.Reap()
	select {
	case <-read:
	case <-time.After(time.Second): // something that has left the group holds it open
		out.Close()
		<-read
	}
	switch {
	case late != nil:
		return &saidError{late, said.last(c.Hide)}
	case status.Signal != "":
		return &saidError{fmt.Errorf("%q was ended by signal: %s", c.Argv[0], status.Signal), said.last(c.Hide)}
	case status.Code != 0:
		return &saidError{fmt.Errorf("%q exited with code %d", c.Argv[0], status.Code), said.last(c.Hide)}
	}
	return nil
}

// saidError is a failed command with its last words.
type saidError struct {
	err   error
	words string
}

func (e *saidError) Error() string { return e.err.Error() + Said(e) }
func (e *saidError) Unwrap() error { return e.err }

// Said is what a failed command said, as the end of a message.
func Said(err error) string {
	var said *saidError
	if !errors.As(err, &said) || said.words == "" {
		return ""
	}
	return fmt.Sprintf(": %q", said.words)
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	limit int
	data  []byte
}

func (b *lastBytes) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	if more := len(b.data) - b.limit; more > b.limit { // seldom, so that few bytes are moved
		b.data = append(b.data[:0], b.data[more:]...)
	}
	return len(p), nil
}

// last is the last line that says something.
func (b *lastBytes) last(hide func(string) string) string {
	var lines []string
	for line := range bytes.Lines(b.data) {
		lines = append(lines, tail.Clean(hide(string(line))))
	}
	return tail.Cut(tail.LastWords(lines))
}
