package tool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// What an executable has printed counts, also while a child of it holds its output open, and up to 1 MiB.
func TestAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // ends the child
	for body, want := range map[string]string{
		"cat '" + pipe + "' &\necho 1; echo 2 >&2":      "1\n2\n",
		"cat '" + pipe + "' &\nhead -c 60000 /dev/zero": strings.Repeat("\x00", 60_000),
		"head -c 200000 /dev/zero":                      strings.Repeat("\x00", 200_000),
		"head -c 3000000 /dev/zero":                     strings.Repeat("\x00", 1<<20),
		"exit 0":                                        "",
	} {
		got, err := Ask(t.Context(), "/bin/sh", []string{"-c", body}, nil, nil)
		if err != nil || got != want {
			t.Errorf("%s: %d bytes %.20q (%v), want %d bytes", body, len(got), got, err, len(want))
		}
	}
	_, err = Ask(t.Context(), "/bin/sh", []string{"-c", "cat '" + pipe + "' &\necho why; exit 3"}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "why") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := Ask(ctx, "/bin/sh", []string{"-c", "cat '" + pipe + "'; :"}, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// A wrapper that somebody has just written may still be open for writing in a child that is about to exec.
func TestAskAFreshExecutable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "engine")
	host.Program(t, path, "#!/bin/sh\necho 1\n")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	time.AfterFunc(30*time.Millisecond, func() { f.Close() })
	if got, err := Ask(t.Context(), path, nil, nil, nil); err != nil || got != "1\n" {
		t.Errorf("%q, %v", got, err)
	}
}
