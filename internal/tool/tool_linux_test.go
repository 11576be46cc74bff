package tool

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What this program was born with is not passed on to the programs that build and install, which are killed with their
// context and yet can leave a daemon (git's maintenance, ccache) behind.
func TestToolsInheritTheirLockAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) *os.File {
		t.Helper()
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	born, log, lock := file("born"), file("log"), file("lock")
	if _, err := unix.FcntlInt(born.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	w := Shop{Dir: dir, Log: log, Lock: lock}
	const list = `(ls -l /proc/$$/fd >list)`
	for what, run := range map[string]func() error{
		"run":    func() error { return w.Run(t.Context(), "/bin/sh", "-c", list) },
		"output": func() error { _, err := w.Output(t.Context(), "/bin/sh", "-c", list); return err },
	} {
		if err := run(); err != nil {
			t.Fatal(err)
		}
		seen, err := os.ReadFile(filepath.Join(dir, "list"))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(seen)) {
			if link, target, ok := strings.Cut(strings.TrimSpace(line), " -> "); ok {
				got[link[strings.LastIndexByte(link, ' ')+1:]] = strings.TrimRight(target, ":[]0123456789")
			}
		}
		want := map[string]string{"0": os.DevNull, "1": log.Name(), "2": log.Name(), "3": lock.Name()}
		if what == "output" {
			want["1"], want["2"] = "pipe", "pipe"
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}
