package access

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
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

// TestExplain names the owner for every kind of error that the kernel's refusals come as, once, and leaves all others as they are.
func TestExplain(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of another user")
	}
	dir := t.TempDir()
	file, folder, socket := filepath.Join(dir, "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "socket")
	mine := filepath.Join(dir, "mine")
	for _, path := range []string{file, mine} {
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, mode := range map[string]os.FileMode{file: 0o600, folder: 0o755, socket: 0o660} {
		if err := errors.Join(os.Chmod(path, mode), os.Chown(path, 12345, 1)); err != nil {
			t.Fatal(err)
		}
	}
	const owner = ", which belongs to uid 12345 and has mode "
	for name, c := range map[string]struct {
		try  func() error
		want string
	}{
		"open":   {func() error { _, err := os.Open(file); return err }, `may not read "` + file + `"` + owner + "0600; " + Remedy},
		"create": {func() error { return os.WriteFile(filepath.Join(folder, "new"), nil, 0o600) }, `may not write "` + folder + `"` + owner + "0755"},
		"rename": {func() error { return os.Rename(mine, filepath.Join(folder, "new")) }, `may not write "` + folder + `"` + owner + "0755"},
		"start":  {func() error { return exec.Command(file).Run() }, `may not execute "` + file + `"` + owner + "0600"},
		"dial":   {func() error { _, err := net.Dial("unix", socket); return err }, `may not write "` + socket + `"` + owner + `0660 (members of the group "daemon" may)`},
		"wrapped": {func() error {
			_, err := os.Open(file)
			return fmt.Errorf("cannot: %w", errors.Join(err, fs.ErrClosed))
		}, `may not read "` + file + `"` + owner + "0600"},
		"told":    {func() error { _, err := os.Open(file); return Explain(err) }, owner},
		"gone":    {func() error { _, err := os.Open(filepath.Join(dir, "none")); return err }, ""},
		"fine":    {func() error { return nil }, ""},
		"no file": {func() error { return syscall.EPERM }, ""},
	} {
		got := without(t, func() string {
			err := c.try()
			explained := Explain(err)
			if c.want == "" && fmt.Sprint(explained) != fmt.Sprint(err) {
				return fmt.Sprintf("%v became %v", err, explained)
			}
			if explained == nil {
				return ""
			}
			if !errors.Is(explained, err) {
				return fmt.Sprintf("%v is not %v any more", explained, err)
			}
			return explained.Error()
		})
		if !strings.Contains(got, c.want) || strings.Count(got, belongs) > 1 || c.want == "" && strings.Contains(got, belongs) {
			t.Errorf("%s: %q, want %q once", name, got, c.want)
		}
	}
}
