package tail

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/logcap"
)

// punch frees the first n bytes of a file.
func punch(t *testing.T, path string, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, n); err != nil {
		t.Skip("no holes here: " + err.Error())
	}
}

func TestHoles(t *testing.T) {
	t.Parallel()
	const all = 16 << 10 // lines, 256 KiB
	path := write(t, lines(0, all))
	early := follow(t, path, 0)
	lagging := follow(t, path, -1)
	if _, err := lagging.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, early); got != "" {
		t.Fatalf("%q", got)
	}
	punch(t, path, 240<<10)
	left := strings.Split(strings.TrimSuffix(lines(15<<10+1, all), "\n"), "\n")
	if got := Lines(path); !slices.Equal(got, left) && !slices.Equal(got[1:], left) {
		t.Errorf("Lines gives %d lines from %q on", len(got), got[0])
	}
	if got := All(path); !slices.Equal(got[1:], left) {
		t.Errorf("All gives %d lines from %q on", len(got), got[0])
	}
	appendTo(t, path, "more\n")
	if got := rest(t, early); got != "more\n" {
		t.Errorf("one that is at the end reads %.40q", got)
	}
	if got, want := rest(t, lagging), "\n"+lines(15<<10+1, all)+"more\n"; got != want {
		t.Errorf("one that lags reads %d bytes %.40q", len(got), got)
	}
	if got := rest(t, follow(t, path, 2)); got != lines(all-1, all)+"more\n" {
		t.Errorf("the last two lines are %q", got)
	}
	if got := rest(t, follow(t, path, all)); got != lines(15<<10+1, all)+"more\n" {
		t.Errorf("all lines are %d bytes %.40q", len(got), got)
	}
}

// TestFollowCapped follows a log that is written and cut all the time: every line comes, once and in order.
func TestFollowCapped(t *testing.T) {
	t.Parallel()
	const step, steps = 512, 200
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path, -1)
	var got strings.Builder
	for i := range steps {
		appendTo(t, path, lines(i*step, (i+1)*step))
		if i%3 == 0 {
			if _, err := logcap.Cap(path, 64<<10); err != nil {
				t.Fatal(err)
			}
		}
		got.WriteString(rest(t, f))
	}
	if got.String() != lines(0, step*steps) {
		t.Errorf("%d bytes of %d", got.Len(), 16*step*steps)
	}
}
