package state

import (
	"errors"
	"fmt"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/atomicfile"
)

// WritePID writes the PID file as a new file: what is in its place, such as a link or a pipe, is neither followed nor
// waited for.
func (f Files) WritePID(pid int) error {
	if err := f.RemovePID(); err != nil {
		return err
	}
	file, err := os.OpenFile(f.PID(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(file, pid)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot write the PID file: %w", err)
	}
	return nil
}

// RemovePID removes the PID file, which need not be there.
func (f Files) RemovePID() error {
	if err := atomicfile.Remove(f.PID()); err != nil {
		return fmt.Errorf("cannot remove the PID file: %w", err)
	}
	return nil
}
