package procfs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseFlockHolders(t *testing.T) {
	t.Parallel()
	got := ParseFlockHolders(`1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4712 08:01:1234 0 EOF
2: POSIX  ADVISORY  WRITE 12 08:01:99 0 EOF
3: FLOCK  ADVISORY  READ 13 08:01:77 0 EOF
4: FLOCK  ADVISORY  WRITE 0 08:01:78 0 EOF
5: FLOCK  ADVISORY  WRITE 4711 08:01:79 0 EOF
6: FLOCK  ADVISORY  WRITE 15 08:01:80 0 EOF
7: FLOCK
`)
	if want := []int{4711, 15}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A lock whose file was removed is still found, by its holder and by its name.
func TestRemovedLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.lock")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(FlockHolders(), os.Getpid()) {
		t.Error("the holder is not found")
	}
	held, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for f := range OpenFiles(os.Getpid(), "test.lock") {
		info, err := f.Stat()
		found = found || err == nil && os.SameFile(info, held)
	}
	if !found {
		t.Error("the file is not found")
	}
}

func FuzzParseFlockHolders(f *testing.F) {
	f.Add("1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, pid := range ParseFlockHolders(text) {
			if pid <= 0 {
				t.Errorf("pid %d", pid)
			}
		}
	})
}
