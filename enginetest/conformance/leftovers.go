package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// process is one of an engine's, told from a later one with the same pid by its start.
type process struct {
	pid   int
	start uint64 // ticks since boot
}

func (p process) String() string {
	s, err := procfs.ReadStat(p.pid)
	if err != nil {
		return strconv.Itoa(p.pid)
	}
	return fmt.Sprintf("%d (%s)", p.pid, s.Comm)
}

func (p process) alive() bool {
	s, err := procfs.ReadStat(p.pid)
	return err == nil && !s.Dead() && s.StartTicks == p.start
}

// see keeps what can be known of the engine's processes while they live: its first one, its session, and what descends
// from them. Beyond Linux only the first is known.
func (l *launch) see() {
	first := l.p.Status().PID
	l.tree = []process{{pid: first}}
	all, err := procfs.Processes()
	if err != nil {
		return
	}
	members := map[int]bool{first: true}
	for before := 0; before < len(members); { // until nobody new is found
		before = len(members)
		for _, s := range all {
			if s.SID == first || members[s.PPID] {
				members[s.PID] = true
			}
		}
	}
	l.tree = nil
	for _, s := range all {
		if members[s.PID] && !s.Dead() {
			l.tree = append(l.tree, process{s.PID, s.StartTicks})
		}
	}
	slices.SortFunc(l.tree, func(a, b process) int {
		if (a.pid == first) != (b.pid == first) { // the first one first
			return map[bool]int{true: -1, false: 1}[a.pid == first]
		}
		return int(a.start) - int(b.start)
	})
	if l.cfg.Provisioning.Mode == "container" {
		return // its temporary folder is its own, and goes with it
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", first))
	if err != nil {
		return
	}
	for variable := range bytes.SplitSeq(env, []byte{0}) {
		if dir, ok := strings.CutPrefix(string(variable), "TMPDIR="); ok {
			l.tempDir = dir
		}
	}
}

// youngest is the pid of the process that was started last.
func (l *launch) youngest() int { return l.tree[len(l.tree)-1].pid }

// nothingLeft fails the test unless every trace of the launch is gone but its log and its record.
func (l *launch) nothingLeft(t *testing.T) {
	t.Helper()
	for _, p := range l.tree {
		if p.alive() {
			t.Errorf("process %s is alive", p)
		}
	}
	port, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.cfg.Port)))
	if err != nil {
		t.Errorf("the port is left: %v", err)
	} else {
		_ = port.Close()
	}
	for _, path := range []string{l.handoffPath(), l.tempDir} {
		if _, err := os.Lstat(path); path != "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v)", path, err)
		}
	}
	unfinished, err := filepath.Glob(filepath.Join(l.cfg.StateDir, "*", ".tmp-*"))
	if err != nil || len(unfinished) > 0 {
		t.Errorf("temporary files are left: %v (%v)", unfinished, err)
	}
	all, err := provisioner.Statuses(l.cfg.StateDir, l.options...)
	if err != nil || len(all) != 1 || !all[0].State.Final() {
		t.Errorf("the records say %+v (%v)", all, err)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("cannot kill process %d: %v", pid, err)
	}
}
