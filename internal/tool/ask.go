package tool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/exefile"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Ask runs the executable with args and returns what it prints on both streams. A wrapper may start processes of its
// own, which go with the question, also when it took too long; they are found like those of a launch. It gets env, and what engines
// get of this program's environment without secrets.
func Ask(ctx context.Context, path string, args []string, env map[string]string, secrets environ.Secrets) (string, error) {
	var list []string
	// os.DevNull is no folder, so no configuration file is found below it.
	all := map[string]string{"XDG_CONFIG_HOME": os.DevNull}
	maps.Copy(all, environ.Engine(environ.For{Secrets: secrets}))
	maps.Copy(all, env)
	for name, value := range all {
		list = append(list, name+"="+value)
	}
	var out limitedBuffer
	began := time.Now()
	err := endingTree(func(mark string) error {
		return runInto(ctx, &out, func() *exec.Cmd {
			cmd := exec.Command(path, args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for this program
			cmd.Env = append(slices.Clone(list), proc.MarkEnv+"="+mark)
			return cmd
		})
	})
	if err != nil {
		return "", &AskError{
			Args:    strings.Join(append([]string{path}, args...), " "),
			Lines:   tail.Last(tail.Text(out.String())),
			Err:     errors.Join(context.Cause(ctx), err),
			Problem: cmp.Or(exefile.StartProblem(path, err), exefile.ExitProblem(path, all["PATH"], err)),
			Took:    time.Since(began),
		}
	}
	return out.String(), nil
}

// AskError says that an executable could not even tell its version; its words tell why.
type AskError struct {
	Args    string
	Lines   []string
	Err     error
	Problem string // why it cannot be run at all; "" where nobody sees that
	Took    time.Duration
}

// Deaf reports whether the executable never answered.
func (e *AskError) Deaf() bool { return errors.Is(e.Err, context.DeadlineExceeded) }

func (e *AskError) Error() string {
	switch words := tail.LastWords(e.Lines); {
	case e.Problem != "":
		return fmt.Sprintf("cannot run %q: %s", e.Args, e.Problem)
	case e.Deaf() && words != "":
		return fmt.Sprintf("%q did not answer within %s: %q", e.Args, e.Took.Round(time.Second), words)
	case e.Deaf():
		return fmt.Sprintf("%q did not answer within %s", e.Args, e.Took.Round(time.Second))
	}
	if words := tail.LastWords(e.Lines); words != "" {
		return fmt.Sprintf("cannot run %q: %v: %q", e.Args, e.Err, words)
	}
	return fmt.Sprintf("cannot run %q: %v", e.Args, e.Err)
}

// Unwrap returns the cause.
func (e *AskError) Unwrap() error { return e.Err }
