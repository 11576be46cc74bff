package procfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
)

// UsesPort reports whether a TCP socket of this network namespace that listens or is connected, or was until a minute
// ago, has the local port. One that is only bound does not count. The answer is of a look that began after the question, and one
// look answers all who asked before it began: where many connections have been closed of late, as when a fleet was stopped that
// is started again, the kernel takes a while to tell them, and as text in the tables of /proc ten times as long.
func UsesPort(port uint16) (bool, error) {
	ports, err := used.Get(func() (map[uint16]bool, error) {
		if ports, err := diagUsed(); err == nil {
			return ports, nil
		}
		return readUsedPorts()
	})
	return ports[port], err
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
