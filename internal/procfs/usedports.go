package procfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
)

// usedPorts are the local ports in the tables of TCP sockets. The kernel takes milliseconds to write these where many
// connections have been closed of late, as when a fleet was stopped that is started again: then one look answers all who
// asked before it began.
type usedPorts struct {
	mu    sync.Mutex
	began time.Time
	ports map[uint16]bool
}

// used is of this network namespace, which is the same for all who ask.
var used usedPorts

// UsesPort reports whether a TCP socket of this network namespace that listens or is connected, or was until a minute
// ago, has the local port. One that is only bound is in no table. The answer is of a look that began after the question.
func UsesPort(port uint16) (bool, error) {
	asked := time.Now()
	used.mu.Lock()
	defer used.mu.Unlock()
	if !used.began.After(asked) {
		began := time.Now()
		ports, err := readUsedPorts()
		if err != nil {
			return false, err
		}
		used.began, used.ports = began, ports
	}
	return used.ports[port], nil
}

func readUsedPorts() (map[uint16]bool, error) {
	ports := map[uint16]bool{}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		data, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(data) {
			if fields := bytes.Fields(line); len(fields) > 1 {
				if local, ok := parseAddrPort(string(fields[1])); ok {
					ports[local.Port()] = true
				}
			}
		}
	}
	return ports, nil
}
