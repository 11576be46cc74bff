package shm

import (
	"os"
	"path/filepath"
	"sync"
	"time"
)

// names remembers the birth of the youngest object for all launches of this program: the folder is read again only when it
// has changed. There is one /dev/shm, and nobody can tell from the answers who has asked before.
var names struct {
	mu       sync.Mutex
	changed  time.Time // when the folder was last changed, at the last look
	looked   time.Time
	youngest time.Time // of what this user has made; zero for nothing
}

// tick is more than the resolution of times of files: what is changed twice within one shows the same time.
const tick = 20 * time.Millisecond

// AnySince reports whether there is an object that a launch which began then may have made. If not, none of its processes
// has to be looked at: reading the maps of all of them was a quarter of what a start costs.
func AnySince(t time.Time) bool {
	names.mu.Lock()
	defer names.mu.Unlock()
	now := time.Now()
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	if at := info.ModTime(); !at.Equal(names.changed) || names.looked.Sub(at) < tick {
		names.changed, names.looked, names.youngest = at, now, time.Time{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			names.changed = time.Time{}
			return true
		}
		for _, entry := range entries {
			if born := birth(filepath.Join(dir, entry.Name())); born.After(names.youngest) {
				names.youngest = born
			}
		}
	}
	return !names.youngest.Before(t.Add(-early))
}
