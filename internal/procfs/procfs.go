// Package procfs reads what Linux tells of processes and sockets under /proc. The parsers work on any system; the
// readers return errors where there is no /proc.
package procfs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Stat is the part of /proc/<pid>/stat that is of use here.
type Stat struct {
	PID        int
	Comm       string // at most 15 bytes, chosen by the process
	State      byte   // R, S, D, T, Z, X …
	PPID       int
	PGID       int
	SID        int
	CPUTicks   uint64 // user and system time, in ticks of 10 ms
	StartTicks uint64 // since boot, in ticks of 10 ms
	VirtBytes  uint64 // size of the address space; 0 for the kernel's own threads and the dead
	RSSPages   int64  // resident memory, in pages
	EnvEnd     uint64 // where the environment ends in memory; 0 before it is there and when the reader may not know
	ExitCode   int    // of the dead, as wait(2) tells it; 0 when the reader may not know
}

// CPU is how much time of processors it has used so far.
func (s Stat) CPU() time.Duration { return time.Duration(s.CPUTicks) * 10 * time.Millisecond }

// RSS is its resident memory in bytes.
func (s Stat) RSS() int64 { return s.RSSPages * int64(os.Getpagesize()) }

// Dead reports whether the process has ended and only waits to be reaped.
func (s Stat) Dead() bool { return s.State == 'Z' || s.State == 'X' }

// ParseStat reads the content of a stat file. The command's name may hold spaces and parentheses, so the fields after
// it are counted from the last ")".
func ParseStat(data []byte) (Stat, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return Stat{}, errors.New("cannot read a process's stat: no command name")
	}
	// Field 3, the state, is fields[0].
	fields := strings.Fields(string(data[end+1:]))
	const last = 24 // rss
	if len(fields) < last-2 || len(fields[0]) != 1 {
		return Stat{}, fmt.Errorf("cannot read a process's stat: %d fields", len(fields)+2)
	}
	var err error
	number := func(text string) int64 {
		n, e := strconv.ParseInt(text, 10, 64)
		err = errors.Join(err, e)
		return n
	}
	field := func(n int) int64 { return number(fields[n-3]) }
	count := func(n int) uint64 {
		c, e := strconv.ParseUint(fields[n-3], 10, 64)
		err = errors.Join(err, e)
		return c
	}
	s := Stat{
		PID:        int(number(strings.TrimSpace(string(data[:open])))),
		Comm:       string(data[open+1 : end]),
		State:      fields[0][0],
		PPID:       int(field(4)),
		PGID:       int(field(5)),
		SID:        int(field(6)),
		CPUTicks:   count(14) + count(15),
		StartTicks: count(22),
		VirtBytes:  count(23),
		RSSPages:   field(24),
	}
	const envEnd = 51 // since Linux 3.5
	if len(fields) > envEnd-3 {
		s.EnvEnd = count(envEnd)
	}
	const exitCode = 52 // since Linux 3.5
	if len(fields) > exitCode-3 {
		s.ExitCode = int(field(exitCode))
	}
	if err != nil {
		return Stat{}, fmt.Errorf("cannot read a process's stat: %w", err)
	}
	return s, nil
}

// ReadStat reads the stat of one process.
func ReadStat(pid int) (Stat, error) {
	data, err := os.ReadFile(path(pid, "stat"))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(data)
}

// Processes lists all processes that can be seen, the dead that wait to be reaped among them.
func Processes() ([]Stat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []Stat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, err := ReadStat(pid); err == nil { // else it is gone already
			all = append(all, s)
		}
	}
	return all, nil
}

// InContainer reports whether the process is in the container with this id, by the name of its control group. Docker and
// Podman use the id in it, with and without systemd; conmon, which watches over a container, is not in it.
func InContainer(pid int, id string) bool {
	data, err := os.ReadFile(path(pid, "cgroup"))
	return err == nil && bytes.Contains(data, []byte(id)) && !bytes.Contains(data, []byte("conmon-"+id))
}

// SeesSockets reports whether this program may look at the sockets of the process.
func SeesSockets(pid int) bool {
	_, err := os.ReadDir(path(pid, "fd"))
	return err == nil
}

// execPatience is how long HasEnv waits for an exec. One takes a millisecond, but the file can lie on a slow disk.
const execPatience = 2 * time.Second

// HasEnv reports whether the process was started with the variable entry, "NAME=value", in its environment. It is
// false where the environment cannot be read, as for other users' processes.
//
// In the middle of an exec a process has no environment: the old one is gone and the new one is not there yet. HasEnv
// waits for the end of that, else a worker that is just being started would be nobody's.
func HasEnv(pid int, entry string) bool {
	data, err := os.ReadFile(path(pid, "environ"))
	for deadline := time.Now().Add(execPatience); err == nil && len(data) == 0 && time.Now().Before(deadline); {
		s, gone := ReadStat(pid)
		if gone != nil || s.VirtBytes == 0 {
			return false
		}
		data, err = os.ReadFile(path(pid, "environ"))
		if s.EnvEnd != 0 {
			break // the exec was over before the environment was read again
		}
		if len(data) == 0 {
			time.Sleep(200 * time.Microsecond)
		}
	}
	if err != nil {
		return false
	}
	for each := range bytes.SplitSeq(data, []byte{0}) {
		if string(each) == entry { // does not allocate: this is asked of all processes of the machine
			return true
		}
	}
	return false
}

// MemoryAvailable is how much main memory can be had without swapping, in bytes, as the kernel estimates it.
func MemoryAvailable() (uint64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return ParseMemoryAvailable(data)
}

// ParseMemoryAvailable reads the content of /proc/meminfo.
func ParseMemoryAvailable(data []byte) (uint64, error) {
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
			return n << 10, err
		}
	}
	return 0, errors.New("no MemAvailable")
}

// Env is a variable with which the process was started; false where it has none or it cannot be read.
func Env(pid int, name string) (value string, ok bool) {
	data, err := os.ReadFile(path(pid, "environ"))
	if err != nil {
		return "", false
	}
	for each := range bytes.SplitSeq(data, []byte{0}) {
		if value, ok := bytes.CutPrefix(each, []byte(name+"=")); ok {
			return string(value), true
		}
	}
	return "", false
}

// HoldsFile reports whether one of the process's descriptors is the file.
func HoldsFile(pid int, file fs.FileInfo) bool {
	dir := path(pid, "fd")
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return slices.ContainsFunc(names, func(name string) bool {
		fd := filepath.Join(dir, name)
		target, err := os.Readlink(fd) // a look at each file could hang on a network disk
		if err != nil || !strings.HasPrefix(filepath.Base(target), file.Name()) {
			return false
		}
		info, err := os.Stat(fd)
		return err == nil && os.SameFile(info, file)
	})
}

// PrintsTo reports whether the process's standard output or error is the file with this path. It is false where that
// cannot be seen, as for other users' processes.
func PrintsTo(pid int, file string) bool {
	want, err := os.Stat(file)
	if err != nil {
		return false
	}
	for _, fd := range []string{"fd/1", "fd/2"} {
		if got, err := os.Stat(path(pid, fd)); err == nil && os.SameFile(got, want) {
			return true
		}
	}
	return false
}

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
		if inodes, err := diagListeners(addr, port); err == nil {
			return inodes, nil
		}
	}
	return tableListeners(pid, addr, port)
}

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

// UsesPort reports whether a TCP socket of this network namespace that listens or is connected, or was until a minute
// ago, has the local port. One that is only bound is in no table.
func UsesPort(port uint16) (bool, error) {
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		data, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return false, err
		}
		for line := range bytes.Lines(data) {
			if fields := bytes.Fields(line); len(fields) > 1 {
				if local, ok := parseAddrPort(string(fields[1])); ok && local.Port() == port {
					return true, nil
				}
			}
		}
	}
	return false, nil
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

// ParseShm returns the paths below /dev/shm that a maps file names, and the inodes of semaphores among what has no name
// there. Left out are paths that are unlinked already, and those with a newline, which the file does not tell from a
// backslash and digits.
func ParseShm(r io.Reader) (paths []string, semaphores []uint64) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		// "7f0c4a000000-7f0c4a001000 rw-s 00000000 00:1b 5        /dev/shm/name": five fields, then a path, which may
		// hold spaces and so whatever follows them.
		name, inode := strings.TrimSuffix(line, "\n"), ""
		for range 5 {
			inode, name, _ = strings.Cut(strings.TrimLeft(name, " "), " ")
		}
		name = strings.TrimLeft(name, " ")
		unlinked := strings.HasSuffix(name, " (deleted)")
		switch {
		case !strings.HasPrefix(name, "/dev/shm/") || strings.Contains(name, `\012`):
		case unlinked && strings.HasPrefix(name, "/dev/shm/sem."):
			if n, err := strconv.ParseUint(inode, 10, 64); err == nil && !slices.Contains(semaphores, n) {
				semaphores = append(semaphores, n)
			}
		case !unlinked && !slices.Contains(paths, name):
			paths = append(paths, name)
		}
		if err != nil {
			return paths, semaphores
		}
	}
}

// Shm returns the paths of the objects below /dev/shm that the process has mapped.
func Shm(pid int) []string {
	f, err := os.Open(path(pid, "maps"))
	if err != nil {
		return nil
	}
	defer f.Close()
	paths, semaphores := ParseShm(f)
	if len(semaphores) == 0 {
		return paths
	}
	// The sem_open of glibc maps a file of a random name, links it to the name that was asked for, and unlinks the first:
	// the process that made a semaphore shows a name that is gone.
	entries, _ := os.ReadDir("/dev/shm")
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		name := filepath.Join("/dev/shm", entry.Name())
		if st, ok := info.Sys().(*syscall.Stat_t); ok && slices.Contains(semaphores, st.Ino) && !slices.Contains(paths, name) {
			paths = append(paths, name)
		}
	}
	return paths
}

// BootID tells one boot of the machine from another.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// PIDNamespace tells in which namespace this process's pids count, such as "pid:[4026531836]".
func PIDNamespace() (string, error) { return os.Readlink("/proc/self/ns/pid") }

func path(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
