package tool

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/logcap"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Error says that a program that builds or installs has failed.
type Error struct {
	Command string   // its name, with what it was to do
	Lines   []string // what it said
	Err     error
}

func (e *Error) Error() string {
	said := tail.LastWords(e.Lines)
	for _, line := range e.Lines {
		if strings.HasPrefix(line, "fatal: ") { // of git, which goes on with advice
			said = line
			break
		}
	}
	if said != "" {
		return fmt.Sprintf("%s failed (%v): %q", e.Command, e.Err, tail.Cut(said))
	}
	return fmt.Sprintf("%s failed (%v)", e.Command, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// BlameDisk adds to what made a tool fail that its disk is full, if so: tools rarely say it well, and it passes.
func BlameDisk(err error, dir string, lines []string) error {
	const little = 1 << 20
	said := slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "No space left on device") })
	if free, _, unknown := logcap.Space(dir); said || unknown == nil && free < little {
		return fmt.Errorf("%w; %w: make room where %q is", err, syscall.ENOSPC, dir)
	}
	return err
}
