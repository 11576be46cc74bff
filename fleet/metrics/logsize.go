package metrics

import (
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// logSizes are the sizes of replicas' logs, for whoever cannot wait for a disk that hangs.
type logSizes struct {
	mu       sync.Mutex
	known    map[replica]int64
	measured chan struct{}          // closed at the end of the look that is under way; nil when there is none
	sizeOf   func(dir string) int64 // dirSize, but in tests
}

// logSizePatience is how long a look may take to be waited for. Twenty logs of a hundred replicas take 10 ms.
const logSizePatience = 100 * time.Millisecond

// of looks at the logs and returns the sizes as they are, or as they were last when the disk does not answer in time.
func (l *logSizes) of(folders map[replica]string) map[replica]int64 {
	l.mu.Lock()
	done := l.measured
	if done == nil {
		done = make(chan struct{})
		l.measured = done
		go l.measure(folders, done)
	}
	l.mu.Unlock()
	patience := time.NewTimer(logSizePatience)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.known)
}

func (l *logSizes) measure(folders map[replica]string, done chan struct{}) {
	defer close(done)
	sizes := make(map[replica]int64, len(folders))
	for r, dir := range folders {
		sizes[r] = l.sizeOf(dir)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.measured = sizes, nil
}

// dirSize is what the files of a folder take on disk. A log whose beginning was cut out is larger than that by its length.
func dirSize(dir string) int64 {
	entries, _ := os.ReadDir(dir)
	var sum int64
	for _, entry := range entries {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(dir, entry.Name()), &st) == nil {
			sum += min(st.Size, st.Blocks*512)
		}
	}
	return sum
}
