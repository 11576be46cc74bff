package filestamp

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Memo keeps what was read of files that are replaced as a whole, until they are. The zero value is empty. It is safe for
// concurrent use.
type Memo[T any] struct {
	mu   sync.Mutex
	kept map[string]kept[T]
}

type kept[T any] struct {
	file identity // which the name stood for
	what T
}

// identity is that of a file's content: one that was replaced or written has another.
type identity struct {
	device, inode        uint64
	seconds, nanoseconds int64
}

// mostKept bounds the memory for names that nobody asks for any more.
const mostKept = 10_000

// Get is what was read of a file. It calls read where the file has been replaced since, or was never read; an error is not
// kept. What read finds may be newer than the file that was looked at, never older.
func (m *Memo[T]) Get(path string, read func() (T, error)) (T, error) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return read() // which says what is wrong
	}
	now := identity{uint64(st.Dev), st.Ino, int64(st.Ctim.Sec), int64(st.Ctim.Nsec)} //nolint:unconvert // they differ between systems
	m.mu.Lock()
	was, known := m.kept[path]
	m.mu.Unlock()
	if known && was.file == now {
		return was.what, nil
	}
	what, err := read()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(m.kept, path)
		return what, err
	}
	if m.kept == nil || len(m.kept) >= mostKept {
		m.kept = map[string]kept[T]{}
	}
	m.kept[path] = kept[T]{now, what}
	return what, nil
}
