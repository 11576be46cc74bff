package provisioner

import (
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// logSizes are the sizes of replicas' logs, for whoever cannot wait for a disk that hangs. The zero value knows none.
type logSizes struct {
	mu       sync.Mutex
	known    map[string]int64 // by the replica's name
	measured chan struct{}    // closed at the end of the look that is under way; nil when there is none
}

// logSizePatience is how long a look may take to be waited for. Twenty logs of a hundred replicas take 10 ms.
const logSizePatience = 100 * time.Millisecond

// of looks at the logs and returns the sizes as they are, or as they were last when the disk does not answer in time. at
// is the failpoint of a test.
func (l *logSizes) of(replicas []*replica, at func(string)) map[string]int64 {
	l.mu.Lock()
	done := l.measured
	if done == nil {
		done = make(chan struct{})
		l.measured = done
		go l.measure(replicas, at, done)
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

func (l *logSizes) measure(replicas []*replica, at func(string), done chan struct{}) {
	defer close(done)
	at("log_size")
	sizes := make(map[string]int64, len(replicas))
	for _, r := range replicas {
		sizes[r.name] = r.files.logSize()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.measured = sizes, nil
}

// logSize is what the replica's logs take on disk. A log whose beginning was cut out is larger than that by its length.
func (f replicaFiles) logSize() int64 {
	entries, _ := os.ReadDir(f.logs())
	var sum int64
	for _, entry := range entries {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(f.logs(), entry.Name()), &st) == nil {
			sum += min(st.Size, st.Blocks*512)
		}
	}
	return sum
}
