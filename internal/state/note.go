package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/proc"
)

// Note is what the file of a lock tells of who took it last. The lock itself is the open file, whatever stands in it.
type Note struct {
	Process proc.ID   `json:"process"`
	Host    string    `json:"host"` // a folder on a network disk may be locked by another machine
	Since   time.Time `json:"since"`
	State   string    `json:"state,omitempty"` // of a manager: its state directory, also when the file is removed or moved
}

// Sign notes who has the lock, for those who wait for it.
func (l *Lock) Sign() { l.SignFor("") }

// SignFor is Sign of a manager of the state directory.
func (l *Lock) SignFor(dir string) {
	host, _ := os.Hostname()
	data, err := json.Marshal(Note{proc.Identify(os.Getpid()), host, time.Now().UTC().Truncate(time.Second), realPath(dir)})
	if err == nil && l.file.Truncate(0) == nil {
		_, _ = l.file.WriteAt(append(data, '\n'), 0)
	}
}

// ReadNote reads who took the lock of a file last; false where that cannot be told.
func ReadNote(path string) (n Note, ok bool) {
	data, err := Read(path)
	return n, err == nil && json.Unmarshal(data, &n) == nil && n.Process.PID > 0
}

// String names the process for people, such as "pid 4711 (since 2026-11-24 13:04:05)".
func (n Note) String() string {
	host, _ := os.Hostname()
	boot, err := proc.ThisBoot()
	switch {
	case n.Process.PID == os.Getpid() && err == nil && boot.PIDNS == n.Process.PIDNS:
		return "another replica"
	case n.Host != host:
		return fmt.Sprintf("pid %d on %q (since %s)", n.Process.PID, n.Host, n.Since.Local().Format(time.DateTime))
	}
	return fmt.Sprintf("pid %d (since %s)", n.Process.PID, n.Since.Local().Format(time.DateTime))
}

// Gone reports whether that process is known to have ended. Others that it started may hold the lock all the same.
func (n Note) Gone() bool {
	boot, err := proc.ThisBoot()
	if err != nil || boot.BootID == "" || boot.BootID != n.Process.BootID || boot.PIDNS != n.Process.PIDNS {
		return false // of another machine or container, which cannot be seen from here
	}
	p, err := proc.Find(n.Process)
	if err == nil {
		p.Close()
	}
	return errors.Is(err, proc.ErrGone)
}
