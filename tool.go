package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// workshop runs the programs that build or install an engine. Each is ended with all that it has started: when it has
// ended by itself, and when the context ends.
type workshop struct {
	dir  string   // where they run
	env  []string // beside the environment of this program
	kept []string // names, as patterns, that stay although they look like secrets
	log  *os.File // what they say
	lock *os.File // what they hold, so that nobody else works there before the last of them has ended; nil: nothing
}

// dropped are variables that would change what is built, or that no build should know.
var dropped = []string{
	"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", // of a git hook
	"MAKEFLAGS", "MFLAGS", "MAKELEVEL", // of a make around us
	"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", // of a Python around us
	"*_TOKEN", "*_KEY", "*_SECRET", "*_PASSWORD", "DESTDIR",
}

// environment is what the programs get, beside their mark.
func (w workshop) environment() []string {
	var env []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); !matches(dropped, name) || matches(w.kept, name) {
			env = append(env, entry)
		}
	}
	// Nobody is there to answer a question, and messages are read by patterns.
	env = append(env, "LC_ALL=C.UTF-8", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS_REQUIRE=never")
	return append(env, w.env...)
}

// run runs a program to its end; what it says goes into the log.
func (w workshop) run(ctx context.Context, path string, args ...string) error {
	fmt.Fprintf(w.log, "$ %s\n", words(append([]string{path}, args...)))
	from, _ := w.log.Seek(0, 2)
	err := endingTree(func(mark string) error {
		var cmd *exec.Cmd
		err := proc.StartFresh(func() error {
			cmd = w.command(mark, path, args)
			cmd.Stdout, cmd.Stderr = w.log, w.log
			return proc.Start(cmd)
		})
		if err != nil {
			return err
		}
		return proc.Wait(ctx, cmd)
	})
	return w.failure(ctx, err, path, args, func() []string { return linesFrom(w.log.Name(), from) })
}

// output runs a program and gives what it prints.
func (w workshop) output(ctx context.Context, path string, args ...string) (string, error) {
	var out limitedBuffer
	err := endingTree(func(mark string) error {
		return runInto(ctx, &out, func() *exec.Cmd { return w.command(mark, path, args) })
	})
	return out.String(), w.failure(ctx, err, path, args, func() []string { return cleanLines(out.String()) })
}

func (w workshop) command(mark, path string, args []string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = w.dir
	// Ctrl-C is for this program, which ends them in its own way; and without a terminal ssh fails rather than to ask.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append(w.environment(), proc.MarkEnv+"="+mark)
	if w.lock != nil {
		cmd.ExtraFiles = []*os.File{w.lock}
	}
	return cmd
}

func (w workshop) failure(ctx context.Context, err error, path string, args []string, lines func() []string) error {
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
	return &toolError{command: command, lines: lines(), err: err}
}

// toolError says that a program that builds or installs has failed.
type toolError struct {
	command string   // its name, with what it was to do
	lines   []string // what it said
	err     error
}

func (e *toolError) Error() string {
	said := lastWords(e.lines)
	for _, line := range e.lines {
		if strings.HasPrefix(line, "fatal: ") { // of git, which goes on with advice
			said = line
			break
		}
	}
	if said != "" {
		return fmt.Sprintf("%s failed (%v): %q", e.command, e.err, tail.Cut(said))
	}
	return fmt.Sprintf("%s failed (%v)", e.command, e.err)
}
func (e *toolError) Unwrap() error { return e.err }

// blameDisk adds to what made a tool fail that its disk is full, if so: tools rarely say it well, and it passes.
func blameDisk(err error, dir string, lines []string) error {
	const little = 1 << 20
	said := slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "No space left on device") })
	if free, _, unknown := logcap.Space(dir); said || unknown == nil && free < little {
		return fmt.Errorf("%w; %w: make room where %q is", err, syscall.ENOSPC, dir)
	}
	return err
}

// endingTree calls what runs a program that carries the mark, and then ends what that has left.
func endingTree(program func(mark string) error) error {
	mark := proc.NewMark()
	err := program(mark)
	left := proc.Tree{Mark: mark}
	if _, stuck := left.Sweep(proc.KillPatience); stuck != nil {
		err = errors.Join(err, stuck)
	}
	return err
}

// follow looks at the end of the log while something runs, until the function that it returns is called. A program that
// writes into a file cannot be held up by whoever reads.
func (w workshop) follow(line func(string)) (stop func()) {
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
				for _, l := range tail.Last(tail.Lines(w.log.Name())) {
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
	return cleanLines(string(text))
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
