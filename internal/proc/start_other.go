//go:build !linux

package proc

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
)

// Descriptors belong to the whole program here: what is not marked close-on-exec is inherited.
func start(cmd *exec.Cmd, tied bool) (untie func(), err error) {
	if tied {
		return nil, fmt.Errorf("cannot tie an engine to this program: %w on %s; leave out \"on_manager_exit: kill\"",
			errors.ErrUnsupported, runtime.GOOS)
	}
	return func() {}, cmd.Start()
}

// CloseOnExec does nothing here.
func CloseOnExec() {}
