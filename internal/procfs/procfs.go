// Package procfs reads what Linux tells of processes and sockets under /proc. The parsers work on any system; the
// readers return errors where there is no /proc.
//
// Whoever has to know something of a process asks here, and nobody else reads /proc for it. Nothing is kept between two calls, and nothing
// signalled: what many launches ask is package census's to share.
package procfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	EnvStart   uint64 // where the environment begins in memory; 0 when the reader may not know
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
	var s Stat
	if err := s.parse(data); err != nil {
		return Stat{}, fmt.Errorf("cannot read a process's stat: %w", err)
	}
	return s, nil
}

// parse allocates nothing for a process whose name is in s already: all of the machine are read again and again.
func (s *Stat) parse(data []byte) (err error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return errors.New("no command name")
	}
	number := func(text []byte) int64 {
		n, e := strconv.ParseInt(string(text), 10, 64)
		err = cmp.Or(err, e)
		return n
	}
	count := func(text []byte) uint64 {
		n, e := strconv.ParseUint(string(text), 10, 64)
		err = cmp.Or(err, e)
		return n
	}
	now := Stat{PID: int(number(bytes.TrimSpace(data[:open])))}
	n := 2
	for field := range bytes.FieldsSeq(data[end+1:]) {
		switch n++; n {
		case 3:
			if len(field) != 1 {
				return errors.New("no state")
			}
			now.State = field[0]
		case 4:
			now.PPID = int(number(field))
		case 5:
			now.PGID = int(number(field))
		case 6:
			now.SID = int(number(field))
		case 14, 15:
			now.CPUTicks += count(field)
		case 22:
			now.StartTicks = count(field)
		case 23:
			now.VirtBytes = count(field)
		case 24:
			now.RSSPages = number(field)
		case 50: // this and the next two since Linux 3.5
			now.EnvStart = count(field)
		case 51:
			now.EnvEnd = count(field)
		case 52:
			now.ExitCode = int(number(field))
		}
	}
	if n < 24 {
		return fmt.Errorf("%d fields", n)
	}
	if err != nil {
		return err
	}
	if now.Comm = s.Comm; now.Comm != string(data[open+1:end]) {
		now.Comm = string(data[open+1 : end])
	}
	*s = now
	return nil
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
	var r Reader
	var all []Stat
	err := r.Each(func(pid int, _ uint64) {
		var s Stat
		if r.Stat(pid, &s) == nil { // else it is gone already
			all = append(all, s)
		}
	})
	return all, err
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

// BootID tells one boot of the machine from another.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// Uptime is how long ago this machine was booted, with the time that it has slept.
func Uptime() (time.Duration, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	seconds, _, _ := strings.Cut(string(data), " ")
	up, err := strconv.ParseFloat(seconds, 64)
	return time.Duration(up * float64(time.Second)), err
}

// PIDNamespace tells in which namespace this process's pids count, such as "pid:[4026531836]".
func PIDNamespace() (string, error) { return os.Readlink("/proc/self/ns/pid") }

func path(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
