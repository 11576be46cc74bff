// Package cgroup gives an engine a control group (version 2) of its own, where a service manager has delegated a part
// of the tree to this process. A group ends all its processes at once, however far they have wandered from their
// parents, and without a race against forks; and it counts what the kernel killed for want of memory.
//
// Nothing here is needed: where there is no delegation, processes are found by other means.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/bytesize"
)

// Base is a cgroup below which this process may make others. Its zero value is none.
type Base struct{ Path string }

// Group is one cgroup. A nil *Group is no group: it has no processes and everything that is done to it is done already.
type Group struct{ Path string }

// Group is the group of this name. It need not exist.
func (b Base) Group(name string) *Group { return &Group{Path: filepath.Join(b.Path, name)} }

// Create makes the group, which must not exist.
func (g *Group) Create() error {
	// Memory is counted per group only where the base holds no process itself ("no internal processes"), as with systemd's
	// DelegateSubgroup=. Elsewhere this fails, which is as well: a unit whose own cgroup hands controllers down while
	// engines survive in it could not be started again.
	_ = write(filepath.Join(filepath.Dir(g.Path), "cgroup.subtree_control"), "+memory")
	return os.Mkdir(g.Path, 0o755)
}

// Open finds a group by the path that Create made; "" is none. A group in which this process is itself counts as none:
// it would end itself.
func Open(path string) *Group {
	g := &Group{Path: path}
	if path == "" || slices.Contains(g.Processes(), os.Getpid()) {
		return nil
	}
	return g
}

// Processes are the pids of the living processes of the group.
func (g *Group) Processes() []int {
	if g == nil {
		return nil
	}
	data, _ := os.ReadFile(filepath.Join(g.Path, "cgroup.procs")) // a group that is gone has none
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Populated reports whether a process lives in the group or below it.
func (g *Group) Populated() bool {
	if g == nil {
		return false
	}
	n, _ := value(filepath.Join(g.Path, "cgroup.events"), "populated")
	return n > 0
}

// Kill sends SIGKILL to all processes in and below the group (Linux 5.14).
func (g *Group) Kill() error {
	if g == nil {
		return nil
	}
	err := write(filepath.Join(g.Path, "cgroup.kill"), "1")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone, or an older kernel
	}
	return err
}

// Remove removes an empty group. One that is gone is removed.
func (g *Group) Remove() error {
	if g == nil {
		return nil
	}
	var err error
	for range 20 { // a process that was seen dead may take a moment longer to leave
		if err = os.Remove(g.Path); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("cannot remove the cgroup: %w", err)
}

// OOM counts the processes that the kernel has killed for want of memory, from a moment on. Its zero value knows nothing.
type OOM struct {
	path   string
	before uint64
	limit  uint64 // what the group may have; 0 for no limit, or none that is known
}

// WatchOOM counts from now on what is killed in the base and below it.
func (b Base) WatchOOM() OOM {
	path := filepath.Join(b.Path, "memory.events")
	before, known := oomKills(path)
	if !known {
		return OOM{}
	}
	return OOM{path: path, before: before}
}

// WatchOwnOOM counts from now on what is killed in the group of this process that limits its memory, and below it. What this process
// starts is in there, too. A process that is in no group but the machine's own knows nothing.
func WatchOwnOOM() OOM {
	m, err := memoryOfThisProcess()
	if err != nil || m.dir == m.mount {
		return OOM{}
	}
	path := filepath.Join(m.dir, m.events)
	before, known := oomKills(path)
	if !known {
		return OOM{}
	}
	limit, err := number(filepath.Join(m.dir, m.limit))
	if err != nil || limit >= noLimit {
		limit = 0
	}
	return OOM{path, before, limit}
}

// WatchMachineOOM counts from now on what is killed on the whole machine; Linux tells since 4.13.
func WatchMachineOOM() OOM {
	const path = "/proc/vmstat"
	before, known := oomKills(path)
	if !known {
		return OOM{}
	}
	return OOM{path: path, before: before}
}

// Kills is the count, and where it stands, with the limit that there is; known is false where the kernel does not count.
func (o OOM) Kills() (n uint64, where string, known bool) {
	now, known := oomKills(o.path)
	where = o.path
	if o.limit > 0 {
		where = fmt.Sprintf("%s, where the limit is %s", where, bytesize.Binary(o.limit))
	}
	return now - min(o.before, now), where, known
}

// OOMKills is the count of the group alone, since it was made. Only a group with accounting of its own has one.
func (g *Group) OOMKills() (n uint64, where string, known bool) {
	if g == nil {
		return 0, "", false
	}
	return OOM{path: filepath.Join(g.Path, "memory.events")}.Kills()
}

func oomKills(path string) (uint64, bool) { return value(path, "oom_kill") }

// value reads a file of lines "key number".
func value(path, key string) (uint64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		if name, number, _ := strings.Cut(strings.TrimSpace(line), " "); name == key {
			n, err := strconv.ParseUint(number, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// write writes to a file of the kernel's; it never makes one.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// errNone says that there is no cgroup v2.
var errNone = errors.New("no cgroup v2")

// own is the folder of the cgroup that a process is in, and that of the hierarchy's mount, by the texts of its
// /proc/<pid>/cgroup and mountinfo. On a hybrid system the hierarchy lies beside those of version 1.
func own(cgroup, mountinfo string) (dir, mount string, err error) {
	unified := func(id, controllers string) bool { return id == "0" && controllers == "" }
	return find(cgroup, mountinfo, unified, func(kind, _ string) bool { return kind == "cgroup2" })
}

// ownMemory is own for the hierarchy of version 1 that limits memory, where there is one.
func ownMemory(cgroup, mountinfo string) (dir, mount string, err error) {
	memory := func(list string) bool { return slices.Contains(strings.Split(list, ","), "memory") }
	return find(cgroup, mountinfo, func(_, controllers string) bool { return memory(controllers) },
		func(kind, options string) bool { return kind == "cgroup" && memory(options) })
}

// find is the folder of a process's group in the hierarchy that two functions know: by a line of /proc/<pid>/cgroup, and by the kind
// and the options of a mount.
func find(cgroup, mountinfo string, is func(id, controllers string) bool, mounted func(kind, options string) bool) (dir, mount string, err error) {
	path, found := "", false
	for line := range strings.Lines(cgroup) {
		if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(parts) == 3 && is(parts[0], parts[1]) {
			path, found = parts[2], true
		}
	}
	if !found {
		return "", "", errNone
	}
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if dash < 6 || len(fields) < dash+2 || !mounted(fields[dash+1], fields[len(fields)-1]) {
			continue
		}
		root, mount := fields[3], unescape.Replace(fields[4])
		below, err := filepath.Rel(root, path)
		if err != nil || below == ".." || strings.HasPrefix(below, "../") {
			continue // another part of the tree is mounted here
		}
		return filepath.Join(mount, below), mount, nil
	}
	return "", "", errNone
}

// unescape undoes what mountinfo does to paths.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
