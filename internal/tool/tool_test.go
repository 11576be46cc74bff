package tool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A build can say gigabytes; its last words are what matters, and only those of this tool.
func TestLinesFrom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	text := "before\n" + strings.Repeat("x\n", 1<<20) + "last words\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := linesFrom(path, 7)
	if len(lines) > 1<<19+1 || lines[len(lines)-1] != "last words" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	if lines := linesFrom(path, int64(len(text)-11)); !slices.Equal(lines, []string{"last words"}) {
		t.Errorf("%q", lines)
	}
}

func TestToolErrorQuotesTheReason(t *testing.T) {
	t.Parallel()
	for want, lines := range map[string][]string{
		`git fetch failed (exit status 128): "fatal: no such repository"`: {"fatal: no such repository", "fatal: Could not read", "", "and the repository exists."},
		`git fetch failed (exit status 128): "the end"`:                   {"x", "the end", ""},
		`git fetch failed (exit status 128)`:                              nil,
	} {
		err := &Error{Command: "git fetch", Lines: lines, Err: errors.New("exit status 128")}
		if err.Error() != want {
			t.Errorf("%s, want %s", err.Error(), want)
		}
	}
}

func TestBlameDisk(t *testing.T) {
	t.Parallel()
	failed := errors.New("cmake --build failed")
	if err := BlameDisk(failed, t.TempDir(), []string{"x.c:1:1: error: no"}); err != failed { //nolint:errorlint // untouched
		t.Errorf("%v", err)
	}
	err := BlameDisk(failed, "/srv/cache", []string{"cc1plus: fatal error: error writing to x.s: No space left on device"})
	if !errors.Is(err, failed) || !errors.Is(err, syscall.ENOSPC) ||
		!strings.Contains(err.Error(), `no space left on device: make room where "/srv/cache" is`) {
		t.Errorf("%v", err)
	}
}
