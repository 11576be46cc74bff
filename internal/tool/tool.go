// Package tool runs programs that answer a question, build or install something. Each is ended with all that it has started:
// when it has ended by itself, and when the context ends. What it said is in the error.
//
// Whoever makes engines or asks them calls it. It starts no engine that stays, and knows neither a configuration nor what
// the programs are for.
package tool

import (
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

	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Shop runs the programs that build or install an engine. Each is ended with all that it has started: when it has
// ended by itself, and when the context ends.
type Shop struct {
	Dir string       // where they run
	For environ.Tool // what they are, which decides what they get of the environment of this program
	Env []string     // beside that

	Secrets environ.Secrets // of the configuration, which they do not get

	Log  *os.File // what they say
	Lock *os.File // what they hold, so that nobody else works there before the last of them has ended; nil: nothing
}

// Environment is what the programs get, beside their mark.
func (w Shop) Environment() []string {
	// Nobody is there to answer a question, and messages are read by patterns.
	env := append(environ.Tools(w.For, w.Secrets), "LC_ALL=C.UTF-8", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS_REQUIRE=never")
	return append(env, w.Env...)
}

// Run runs a program to its end; what it says goes into the log.
func (w Shop) Run(ctx context.Context, path string, args ...string) error {
	fmt.Fprintf(w.Log, "$ %s\n", words(append([]string{path}, args...)))
	from, _ := w.Log.Seek(0, 2)
	err := endingTree(func(mark string) error {
		var cmd *exec.Cmd
		err := proc.StartFresh(func() error {
			cmd = w.command(mark, path, args)
			cmd.Stdout, cmd.Stderr = w.Log, w.Log
			return proc.Start(cmd)
		})
		if err != nil {
			return err
		}
		return proc.Wait(ctx, cmd)
	})
	return w.failure(ctx, err, path, args, func() []string { return linesFrom(w.Log.Name(), from) })
}

// Output runs a program and gives what it prints.
func (w Shop) Output(ctx context.Context, path string, args ...string) (string, error) {
	var out limitedBuffer
	err := endingTree(func(mark string) error {
		return runInto(ctx, &out, func() *exec.Cmd { return w.command(mark, path, args) })
	})
	return out.String(), w.failure(ctx, err, path, args, func() []string { return tail.Text(out.String()) })
}

func (w Shop) command(mark, path string, args []string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = w.Dir
	// Ctrl-C is for this program, which ends them in its own way; and without a terminal ssh fails rather than to ask.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append(w.Environment(), proc.MarkEnv+"="+mark)
	if w.Lock != nil {
		cmd.ExtraFiles = []*os.File{w.Lock}
	}
	return cmd
}

func (w Shop) failure(ctx context.Context, err error, path string, args []string, lines func() []string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	command := filepath.Base(path)
	switch {
	case len(args) > 1 && args[0] == "-m": // a program of Python's
		command = args[1]
	case len(args) > 0 && !strings.HasPrefix(args[0], "/"):
		command += " " + args[0]
	}
	return &Error{Command: command, Lines: lines(), Err: err}
}

// endingTree calls what runs a program that carries the mark, and then ends what that has left.
func endingTree(program func(mark string) error) error {
	mark, since := proc.NewMark(), proc.Now()
	err := program(mark)
	left := proc.Tree{Mark: mark, Since: since}
	if _, stuck := left.Sweep(proc.KillPatience); stuck != nil {
		err = errors.Join(err, stuck)
	}
	return err
}

// Follow looks at the end of the log while something runs, until the function that it returns is called. A program that
// writes into a file cannot be held up by whoever reads.
func (w Shop) Follow(line func(string)) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				for _, l := range tail.Last(tail.Lines(w.Log.Name())) {
					line(l)
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}

// linesFrom are the lines of a log from an offset on, the last MiB of them.
func linesFrom(path string, offset int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	const limit = 1 << 20
	if info, err := f.Stat(); err == nil {
		offset = max(offset, info.Size()-limit)
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, offset, limit))
	return tail.Text(string(text))
}

// words writes a command for people.
func words(args []string) string {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = a
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$") {
			shown[i] = fmt.Sprintf("%q", a)
		}
	}
	return strings.Join(shown, " ")
}
