package exefile

import (
	"cmp"
	"errors"
	"syscall"

	"github.com/llama-orch/engine-provisioner/internal/access"
)

// StartProblem says why a program could not be started, where the kernel's word for it does not.
func StartProblem(path string, err error) string {
	for _, errno := range []syscall.Errno{syscall.ENOEXEC, syscall.ENOENT} {
		if errors.Is(err, errno) {
			return Problem(path)
		}
	}
	if errors.Is(err, syscall.EACCES) {
		return cmp.Or(access.Denied(path, "execute"), "permission denied, though its mode allows it; see whether its file system is mounted noexec")
	}
	return ""
}
