package enginetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Stranger starts a web server in the test process that answers 200 to everything, on 127.0.0.1, until t ends. It
// returns the port: the one that an engine was meant to have.
func Stranger(t testing.TB) int {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).Port
}

// portLocks is where all tests of this user look, also one that has set TMPDIR for itself.
var portLocks = filepath.Join(os.TempDir(), "enginetest-ports-"+strconv.Itoa(os.Getuid()))

// portBlock is how many ports one lock file covers: few files, and a block is enough for most tests.
const portBlock = 10

// FreePort returns a port p of 127.0.0.1 such that p to p+n-1 are free. They stay reserved until t ends, against
// every other test that uses FreePort, also in other processes. They lie below the range from which the kernel takes
// ports for outgoing connections, so that no connection takes one meanwhile, and below 20000, from where on each TGI has
// two more.
func FreePort(t testing.TB, n int) int {
	t.Helper()
	const first = 10000
	last := min(20000, ephemeralLow()) - 1
	blocks := (n + portBlock - 1) / portBlock
	choices := (last-first+1)/portBlock - blocks + 1
	if n < 1 || choices < 1 {
		t.Fatalf("cannot reserve %d ports between %d and %d", n, first, last)
	}
	for range 10000 {
		start := first + portBlock*rand.IntN(choices)
		release, err := reserve(portLocks, start, blocks)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			t.Fatalf("cannot reserve ports: %v", err)
		}
		if !allFree(start, n) {
			release()
			continue
		}
		t.Cleanup(release)
		return start
	}
	t.Fatalf("cannot find %d free ports between %d and %d", n, first, last)
	return 0
}

var errTaken = errors.New("another test has it")

// reserve locks the blocks of ports from start on, in files that go with the lock. It fails with errTaken when another
// test has one of them.
func reserve(dir string, start, blocks int) (release func(), err error) {
	var held []*os.File
	release = func() {
		for _, f := range held {
			_ = os.Remove(f.Name())
			// Unlocked by hand: a child between fork and exec shares the open file, and closing ours would not do.
			_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
			_ = f.Close()
		}
		_ = os.Remove(dir) // by the last one; it fails for the others
	}
	for i := range blocks {
		f, err := lockFile(dir, strconv.Itoa(start+i*portBlock))
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, f)
	}
	return release, nil
}

func lockFile(dir, name string) (*os.File, error) {
	// MkdirAll says ErrExist when the folder is removed between its two looks.
	if err := os.MkdirAll(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // the folder was removed meanwhile
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		err = errTaken
	}
	if err == nil && !stillThere(f) {
		err = errTaken
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// stillThere says whether f is the file of its name. A lock on one that its owner
// has removed keeps nobody out.
func stillThere(f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(opened, named)
}

func allFree(start, n int) bool {
	for port := start; port < start+n; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// ephemeralLow returns the lowest port that the kernel hands out by itself.
func ephemeralLow() int {
	const usual = 32768 // Linux's default; macOS begins at 49152
	low := usual
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	// Where the kernel takes nearly all ports there is no place below; the lock and the check must do.
	if _, err := fmt.Sscan(string(data), &low); err != nil || low < 15000 {
		return usual
	}
	return low
}
