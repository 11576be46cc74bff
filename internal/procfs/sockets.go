package procfs

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ParseListeners returns the inodes of the sockets that listen on the TCP port, from /proc/net/tcp or tcp6, and can be
// reached at addr.
func ParseListeners(r io.Reader, addr netip.Addr, port uint16) []uint64 {
	const listen = "0A"
	var inodes []uint64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listen {
			continue
		}
		local, ok := parseAddrPort(fields[1])
		if !ok || !serves(local, addr, port) {
			continue
		}
		if inode, err := strconv.ParseUint(fields[9], 10, 64); err == nil && inode != 0 {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// serves reports whether who connects to addr and port reaches a socket that listens on local. "0.0.0.0" is any address
// of IPv4, "::" of both.
func serves(local netip.AddrPort, addr netip.Addr, port uint16) bool {
	at, addr := local.Addr().Unmap(), addr.Unmap().WithZone("") // the kernel tells no zones
	return local.Port() == port && (at == addr || at.IsUnspecified() && (at.Is6() || addr.Is4()))
}

// parseAddrPort reads "0100007F:1F91". Each group of four bytes is in the machine's byte order, which is little-endian on
// every system that Go's linux/amd64, arm64 and riscv64 run on.
func parseAddrPort(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for group := range slices.Chunk(raw, 4) {
		slices.Reverse(group)
	}
	addr, _ := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), err == nil
}

// Listeners returns the inodes of the sockets that listen on port and can be reached at addr, in the network namespace
// of the process.
func Listeners(pid int, addr netip.Addr, port uint16) ([]uint64, error) {
	// The tables also hold every connection, and the kernel walks its whole hash table of them: 35 ms on a busy machine
	// with 1000 closed ones. Asking for listeners alone, and looking for their owner, takes 0.2 ms.
	if sameNetwork(pid) {
		if all, err := listening.Get(diagListeners); err == nil {
			return reachable(all, addr, port), nil
		}
	}
	return tableListeners(pid, addr, port)
}

// reachable are the inodes of those sockets that ParseListeners finds in the tables.
func reachable(all []socket, addr netip.Addr, port uint16) (inodes []uint64) {
	for _, s := range all {
		if s.inode != 0 && serves(s.at, addr, port) {
			inodes = append(inodes, s.inode)
		}
	}
	return inodes
}

var errOtherNetwork = errors.New("its network is another")

// sameNetwork reports whether the process is in this process's network namespace.
func sameNetwork(pid int) bool {
	ours, err := os.Readlink("/proc/self/ns/net")
	theirs, e := os.Readlink(path(pid, "ns/net"))
	return err == nil && e == nil && ours == theirs
}

func tableListeners(pid int, addr netip.Addr, port uint16) ([]uint64, error) {
	f, err := os.Open(path(pid, "net/tcp"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	inodes := ParseListeners(f, addr, port)
	f6, err := os.Open(path(pid, "net/tcp6"))
	if errors.Is(err, fs.ErrNotExist) {
		return inodes, nil // a kernel without IPv6
	}
	if err != nil {
		return nil, err
	}
	defer f6.Close()
	return append(inodes, ParseListeners(f6, addr, port)...), nil
}

// HoldsSocket reports whether one of the process's descriptors is one of the sockets.
func HoldsSocket(pid int, inodes []uint64) bool {
	dir := path(pid, "fd")
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return slices.ContainsFunc(names, func(name string) bool {
		target, err := os.Readlink(filepath.Join(dir, name))
		text, ok := strings.CutPrefix(target, "socket:[")
		if err != nil || !ok {
			return false
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
		return err == nil && slices.Contains(inodes, inode)
	})
}

// Holder is the oldest process that holds one of the sockets; false when none is seen to.
func Holder(inodes []uint64) (Stat, bool) {
	all, _ := Processes()
	all = slices.DeleteFunc(all, func(s Stat) bool { return !HoldsSocket(s.PID, inodes) })
	if len(all) == 0 {
		return Stat{}, false
	}
	return oldest(all), true
}

// oldest is the first of a socket's holders: others have it from that one, such as a child between fork and exec,
// whose number can be the lower one.
func oldest(holders []Stat) Stat {
	return slices.MinFunc(holders, func(a, b Stat) int { return cmp.Compare(a.StartTicks, b.StartTicks) })
}
