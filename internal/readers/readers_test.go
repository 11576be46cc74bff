package readers

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	own, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Skip("this user's group has no name: ", err)
	}
	for _, c := range []struct {
		mode, group string
		want        Readers
	}{
		{"", "", Readers{0o600, -1}},
		{"0640", "", Readers{0o640, -1}},
		{"0644", "", Readers{0o644, -1}},
		{"", "7", Readers{0o640, 7}},
		{"0644", "7", Readers{0o644, 7}},
		{"", own.Name, Readers{0o640, os.Getgid()}},
	} {
		if got, err := Of(c.mode, c.group); got != c.want || err != nil {
			t.Errorf("%q, %q: %+v, %v", c.mode, c.group, got, err)
		}
	}
	if _, err := Of("", "no such group"); err == nil || !strings.Contains(err.Error(), `no group "no such group"`) {
		t.Errorf("an unknown group: %v", err)
	}
	if _, err := Of("rw", ""); err == nil {
		t.Error("a mode of letters")
	}
}

func TestFolders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		readers    Readers
		pass, read fs.FileMode
	}{
		{Readers{0o600, -1}, 0o700, 0o700},
		{Readers{0o640, os.Getgid()}, 0o710, 0o750},
		{Readers{0o644, -1}, 0o711, 0o755},
	} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for i, step := range []struct {
			do   func(string) error
			want fs.FileMode
		}{{c.readers.Pass, c.pass}, {c.readers.Pass, c.pass}, {c.readers.Read, c.read}, {c.readers.Pass, c.read}} {
			err := step.do(dir)
			if info, _ := os.Stat(dir); err != nil || info.Mode().Perm() != step.want {
				t.Errorf("%+v, step %d: %v, want %v (%v)", c.readers, i, info.Mode().Perm(), step.want, err)
			}
		}
	}
	if err := (Readers{0o640, -1}).Pass(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a folder that is not there")
	}
}
