package provisioner

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// freezer makes processes unkillable: in the freezer of cgroup v1, SIGKILL has no effect until the thaw. It stands in
// for a process that hangs in a driver.
type freezer struct{ dir string }

func newFreezer(t *testing.T) freezer {
	t.Helper()
	f := freezer{filepath.Join("/sys/fs/cgroup/freezer", "engine-provisioner-test-"+strconv.Itoa(os.Getpid()))}
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		skip(t, "needs root and the freezer of cgroup v1: "+err.Error())
	}
	t.Cleanup(func() {
		f.thaw(t)
		eventually(t, "the cgroup is empty", func() bool { return os.Remove(f.dir) == nil })
	})
	return f
}

func (f freezer) freeze(t *testing.T, pid int) {
	t.Helper()
	f.write(t, "cgroup.procs", strconv.Itoa(pid))
	f.write(t, "freezer.state", "FROZEN")
	eventually(t, "the process is frozen", func() bool {
		state, err := os.ReadFile(filepath.Join(f.dir, "freezer.state"))
		return err == nil && strings.TrimSpace(string(state)) == "FROZEN"
	})
}

func (f freezer) thaw(t *testing.T) { t.Helper(); f.write(t, "freezer.state", "THAWED") }

func (f freezer) write(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}
