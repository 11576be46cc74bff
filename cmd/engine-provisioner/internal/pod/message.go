package pod

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// maxMessage is how much Kubernetes keeps of a container's termination message, in bytes.
const maxMessage = 2048

// LeaveMessage writes why a run failed, in words and the engine's last lines, to path: in a pod /dev/termination-log, which
// "kubectl describe pod" shows.
func LeaveMessage(path, words string, lines []string) error {
	// Written in place: in a pod the file is a mount, which nothing can be renamed to.
	// A link may lead to any file of this user's, and a fifo that nobody reads would keep the run from ending.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o644)
	if err == nil {
		err = overwrite(f, message(words, lines))
		_ = f.Close() // the write has told
	}
	if err != nil {
		return fmt.Errorf("cannot leave the termination message: %w", access.Explain(err))
	}
	return nil
}

func overwrite(f *os.File, text string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		if err := state.CheckOwn(f.Name(), info); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	_, err = f.WriteString(text)
	return err
}

// message is an error in maxMessage bytes: the cause and what to do first, then as many of the engine's last lines as there is
// room for. Left to itself, Kubernetes keeps the end of the log, and an engine that prints its usage pushes the cause out.
func message(words string, lines []string) string {
	text := cut(tail.Plain(words), maxMessage-1) + "\n"
	from := len(lines)
	for room := maxMessage - len(text); from > 0; from-- {
		if room -= len(lines[from-1]) + 1; room < 0 {
			break
		}
	}
	if from < len(lines) {
		text += strings.Join(lines[from:], "\n") + "\n"
	}
	return text
}

// cut is the beginning of text, of at most size bytes and whole characters.
func cut(text string, size int) string {
	if len(text) <= size {
		return text
	}
	const mark = "…"
	size -= len(mark)
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size] + mark
}
