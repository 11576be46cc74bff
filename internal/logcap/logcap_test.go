package logcap

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// numbered is a log of the lines from to to-1, each 16 bytes long.
func numbered(from, to int) []byte {
	var b bytes.Buffer
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "line %010d\n", n)
	}
	return b.Bytes()
}

// checkNumbered fails the test unless data is the end of a log up to line last, with nothing missing.
func checkNumbered(t *testing.T, data []byte, last int) {
	t.Helper()
	data = bytes.TrimLeft(data, "\x00")
	if _, data, _ = bytes.Cut(data, []byte("\n")); len(data) == 0 {
		t.Fatal("nothing is left")
	}
	first, err := strconv.Atoi(string(data[5:15]))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, numbered(first, last+1)) {
		t.Errorf("%d bytes from line %d on are not the lines up to %d", len(data), first, last)
	}
}

func TestCopyTruncate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct{ lines, end int }{
		{1 << 10, 8 << 10}, {1 << 10, 100}, {1 << 18, 1 << 20}, {1 << 18, 3<<20 + 5}, {1 << 10, 16<<10 - 100},
	} {
		if err := os.WriteFile(path, numbered(0, c.lines), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := copyTruncate(f, 0, int64(c.end)); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if want := c.lines*16 - c.end/Block*Block; err != nil || len(data) != want {
			t.Errorf("%d bytes left (%v), want %d", len(data), err, want)
		}
		checkNumbered(t, data, c.lines-1)
		f.Close()
	}
}

func TestCapLeavesSmallFilesAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, numbered(0, 1<<12), 0o600); err != nil {
		t.Fatal(err)
	}
	left, err := Cap(path, 1<<16)
	if data, _ := os.ReadFile(path); err != nil || left != 1<<16 || !bytes.Equal(data, numbered(0, 1<<12)) {
		t.Errorf("%d bytes left (%v)", left, err)
	}
}

func TestCapRefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, numbered(0, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link, filepath.Join(dir, "none")} {
		if _, err := Cap(path, 1); err == nil {
			t.Errorf("%q was taken for a log", path)
		}
	}
	if data, err := os.ReadFile(victim); err != nil || len(data) != 1<<20 {
		t.Errorf("the file behind the link has %d bytes (%v)", len(data), err)
	}
}
