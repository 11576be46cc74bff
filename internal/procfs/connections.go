package procfs

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
)

// Connection is a TCP socket that has a peer.
type Connection struct {
	Local, Remote netip.AddrPort
	Inode         uint64 // 0 when no process has it any more
}

// ParseConnections returns the sockets of the local port that do not listen, from /proc/net/tcp or tcp6.
func ParseConnections(data []byte, port uint16) []Connection {
	const listen = "0A"
	var all []Connection
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) < 10 || string(fields[3]) == listen {
			continue
		}
		local, ok := parseAddrPort(string(fields[1]))
		if !ok || local.Port() != port {
			continue
		}
		remote, ok := parseAddrPort(string(fields[2]))
		inode, err := strconv.ParseUint(string(fields[9]), 10, 64)
		if ok && err == nil {
			all = append(all, Connection{local, remote, inode})
		}
	}
	return all
}

// ParseListening returns the inodes of all sockets that listen on the port, at whatever address.
func ParseListening(data []byte, port uint16) []uint64 {
	const listen = "0A"
	var inodes []uint64
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) < 10 || string(fields[3]) != listen {
			continue
		}
		local, ok := parseAddrPort(string(fields[1]))
		inode, err := strconv.ParseUint(string(fields[9]), 10, 64)
		if ok && err == nil && local.Port() == port && inode != 0 {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// Listening returns the inodes of all sockets of this network namespace that listen on the port.
func Listening(port uint16) ([]uint64, error) {
	var all []uint64
	err := eachTable(func(data []byte) { all = append(all, ParseListening(data, port)...) })
	return all, err
}

// Connections returns the sockets of this network namespace that have the local port and do not listen.
func Connections(port uint16) ([]Connection, error) {
	var all []Connection
	err := eachTable(func(data []byte) { all = append(all, ParseConnections(data, port)...) })
	return all, err
}

// eachTable reads the tables of TCP sockets of this network namespace.
func eachTable(use func(data []byte)) error {
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		data, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		use(data)
	}
	return nil
}
