package exefile

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// maxLine is more than a kernel reads of a first line.
const maxLine = 4096

// notFound is the exit status by which a shell, and env, say that they have not found a program.
const notFound = 127

// ExitProblem says, for people, why the script at path could not do its work though the kernel has started it: its first line is
// one of env, which has not found the interpreter in the folders of searchPath. "" when nothing of the kind is seen.
func ExitProblem(path, searchPath string, err error) string {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != notFound {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(io.LimitReader(f, maxLine), maxLine).ReadString('\n')
	if err != nil {
		return ""
	}
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if !strings.HasPrefix(line, "#!") || len(words) < 2 || filepath.Base(words[0]) != "env" {
		return ""
	}
	name := words[1]
	if name == "-S" && len(words) > 2 {
		name = words[2]
	}
	if strings.HasPrefix(name, "-") || strings.ContainsAny(name, "/=") {
		return "" // a path, a variable or a flag of env
	}
	for _, dir := range filepath.SplitList(searchPath) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return ""
		}
	}
	return fmt.Sprintf("its interpreter %q is not in PATH", name)
}
