package state

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/logcap"
)

// withDefaults are limits with those that are left out.
func withDefaults(l LogLimits) LogLimits {
	return LogLimits{cmp.Or(l.Size, 64<<20), cmp.Or(l.PoolSize, 512<<20), func(bytes int64) string { return fmt.Sprint(bytes) }}
}

// keeperOf is a keeper of a state directory with the logs of files: sizes by "replica/number".
func keeperOf(t *testing.T, limits LogLimits, records []Head, sizes map[string]int) (*LogKeeper, func() []string) {
	t.Helper()
	dir := t.TempDir()
	for _, rec := range records {
		files := In(dir, rec.Pool+"-"+rec.Replica)
		if err := files.Create(); err != nil {
			t.Fatal(err)
		}
		rec.Schema, rec.LaunchID = RecordSchema, "a"
		if err := files.ChangeRecord(func() (any, Keeping) { return rec, Lasts }); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range slices.Sorted(maps.Keys(sizes)) {
		path := filepath.Join(dir, filepath.Dir(name), "logs", filepath.Base(name)+".log")
		if err := os.WriteFile(path, []byte(strings.Repeat("x", sizes[name])), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	k := &LogKeeper{
		files: In(dir, "pool-r0"), pool: "pool", limits: withDefaults(limits),
		space: func(string) (uint64, uint64, error) { return 50 << 30, 100 << 30, nil },
		note:  func(text string) { t.Log(text) },
	}
	return k, func() []string {
		var left []string
		for _, name := range slices.Sorted(maps.Keys(sizes)) {
			info, err := os.Stat(filepath.Join(dir, filepath.Dir(name), "logs", filepath.Base(name)+".log"))
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				t.Fatal(err)
			case logcap.Usage(info) < int64(sizes[name]):
				left = append(left, name+" cut")
			default:
				left = append(left, name)
			}
		}
		return left
	}
}

func TestCapPool(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	running := Head{Pool: "pool", Replica: "r0", Generation: 4, State: "starting", LastFailed: 2}
	stopped := Head{Pool: "pool", Replica: "r1", Generation: 2, State: "stopped"}
	failed := Head{Pool: "pool", Replica: "r2", Generation: 2, State: "failed", LastFailed: 1}
	other := Head{Pool: "pool-r0", Replica: "x", Generation: 9, State: "stopped"}
	all := []Head{running, stopped, failed, other}
	sizes := map[string]int{
		"pool-r0/1": mib, "pool-r0/2": mib, "pool-r0/3": mib, "pool-r0/4": mib,
		"pool-r1/1": mib, "pool-r1/2": mib, "pool-r2/1": mib, "pool-r2/2": mib, "pool-r0-x/1": mib,
	}
	for _, c := range []struct {
		name   string
		limits LogLimits
		low    bool
		want   []string
	}{
		{"within", LogLimits{PoolSize: 9 * mib}, false, []string{
			"pool-r0-x/1", "pool-r0/1", "pool-r0/2", "pool-r0/3", "pool-r0/4", "pool-r1/1", "pool-r1/2", "pool-r2/1", "pool-r2/2",
		}},
		{"the oldest go", LogLimits{PoolSize: 6 * mib}, false, []string{
			"pool-r0-x/1", "pool-r0/2", "pool-r0/4", "pool-r1/1", "pool-r1/2", "pool-r2/1", "pool-r2/2",
		}},
		{"failed ones stay", LogLimits{PoolSize: 3 * mib}, false, []string{"pool-r0-x/1", "pool-r0/2", "pool-r0/4", "pool-r2/2"}},
		{"and go at last", LogLimits{PoolSize: mib}, false, []string{"pool-r0-x/1", "pool-r0/4"}},
		{"what runs is cut", LogLimits{PoolSize: mib / 2}, false, []string{"pool-r0-x/1", "pool-r0/4 cut"}},
		{"little space", LogLimits{Size: mib / 2}, true, []string{
			"pool-r0-x/1", "pool-r0/2 cut", "pool-r0/4 cut", "pool-r1/2 cut", "pool-r2/2 cut",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k, left := keeperOf(t, c.limits, all, sizes)
			k.low = c.low
			k.capPool()
			if got := left(); !slices.Equal(got, c.want) {
				t.Errorf("left are\n%q, want\n%q", got, c.want)
			}
		})
	}
}

func TestLowSpace(t *testing.T) {
	t.Parallel()
	var notes []string
	free := uint64(5 << 30)
	k := LogKeeper{
		limits: withDefaults(LogLimits{}), note: func(text string) { notes = append(notes, text) },
		space: func(string) (uint64, uint64, error) { return free, 100 << 30, nil },
	}
	for _, step := range []struct {
		freeMiB uint64
		low     bool
		notes   int
	}{{5 << 10, false, 0}, {2047, true, 1}, {100, true, 1}, {2100, true, 1}, {2561, false, 1}, {0, true, 2}} {
		free = step.freeMiB << 20
		if low := k.spaceLow(); low != step.low || len(notes) != step.notes {
			t.Errorf("%d MiB free: low is %v, with the notes %q", step.freeMiB, low, notes)
		}
	}
	k.space = func(string) (uint64, uint64, error) { return 0, 0, errors.ErrUnsupported }
	if !k.spaceLow() || len(notes) != 2 {
		t.Errorf("unknown space changes what was known, or is told: %q", notes)
	}
}
