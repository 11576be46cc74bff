package access

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDenied(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of another user")
	}
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	file, shut := filepath.Join(dir, "file"), filepath.Join(dir, "shut")
	for path, mode := range map[string]os.FileMode{open: 0o644, file: 0o600} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(shut, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{open, file, shut} {
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ path, want, text string }{
		{open, "read", ""},
		{open, "write", `may not write "` + open + `", which belongs to uid 12345 and has mode 0644`},
		{file, "read", `may not read "` + file + `", which belongs to uid 12345 and has mode 0600`},
		{filepath.Join(shut, "model.gguf"), "read", `may not enter "` + shut + `", which belongs to uid 12345 and has mode 0700`},
		{filepath.Join(dir, "none"), "read", ""},
		{open, "execute", `may not execute "` + open + `"`},
	} {
		if got := without(t, func() string { return Denied(c.path, c.want) }); got == "" != (c.text == "") || !strings.Contains(got, c.text) {
			t.Errorf("%s %s: %q, want %q", c.want, c.path, got, c.text)
		}
	}
	if got := Denied(file, "write"); got != "" {
		t.Errorf("root: %q", got)
	}
}

// without asks on a thread that has not root's right to every file, and ends with it.
func without(t *testing.T, ask func() string) string {
	t.Helper()
	type result struct {
		text string
		err  error
	}
	answer := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread is not used again
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		var r result
		if r.err = unix.Capget(&header, &data[0]); r.err == nil {
			const all = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
			data[0].Effective &^= all
			data[0].Permitted &^= all // access(2) of root takes these
			r.err = unix.Capset(&header, &data[0])
		}
		if r.err == nil {
			r.text = ask()
		}
		answer <- r
	}()
	r := <-answer
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.text
}
