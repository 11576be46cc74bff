package node

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/cgroup"
	"github.com/llama-orch/engine-provisioner/internal/nvidia"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
)

// networkFilesystems are those on which locks or notifications depend on a server.
var networkFilesystems = map[uint64]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.SMB2_SUPER_MAGIC: "smb",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.V9FS_MAGIC:       "9p",
	unix.FUSE_SUPER_MAGIC: "fuse",
}

// minFree is room for some logs. Models are staged elsewhere.
const minFree = 1 << 30

// filesystem checks where a folder lies and how much room there is.
func (d *doctor) filesystem(name, dir string) {
	var sys unix.Statfs_t
	at := access.Existing(dir)
	if err := unix.Statfs(at, &sys); err != nil {
		d.problem(name, fmt.Sprintf("cannot ask for the file system of %q: %v", at, err), "")
		return
	}
	if kind, ok := networkFilesystems[uint64(uint32(sys.Type))]; ok && name == "state directory" {
		d.warning(name, fmt.Sprintf("%s lies on a network file system (%s), where locks may fail", dir, kind),
			`set "state_dir" to a local disk`)
	}
	free := sys.Bavail * uint64(sys.Bsize)
	if free < minFree || sys.Files > 0 && sys.Ffree < 1000 {
		d.warning(name, fmt.Sprintf("%s and %d inodes are free at %s", gib(free), sys.Ffree, at), "make room: engines write logs there")
		return
	}
	d.ok(name, "%s free at %s", gib(free), at)
}

// system checks what the kernel offers to this process.
func (d *doctor) system() {
	var name unix.Utsname
	_ = unix.Uname(&name)
	release := unix.ByteSliceToString(name.Release[:])
	self, err := proc.Hold(os.Getpid())
	switch {
	case err != nil:
		d.problem("kernel", fmt.Sprintf("Linux %s: %v", release, err),
			"run Linux 5.3 or newer; in a sandbox, allow pidfd_open and mount /proc")
	case self.PidfdIno == 0:
		self.Close()
		d.ok("kernel", "Linux %s, pidfd; processes are told apart by start time (pidfd inodes come with 6.9)", release)
	default:
		self.Close()
		d.ok("kernel", "Linux %s, pidfd with unique inodes", release)
	}
	d.proc()
	d.cgroups()
	var files unix.Rlimit
	const enough = 1024 // a replica needs 3, an engine inherits the limit and serves hundreds of connections
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < enough {
		d.warning("open files", fmt.Sprintf("the limit is %d", files.Cur), "raise it: ulimit -n 4096")
	} else {
		d.ok("open files", "the limit is %d", files.Cur)
	}
	build := runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version()
	switch {
	case nvidia.Available:
		d.ok("build", "%s", build)
	case runtime.GOARCH == "amd64", runtime.GOARCH == "arm64":
		d.warning("build", build+", static: it cannot talk to NVIDIA's driver", "for GPUs of NVIDIA install the build that is not static")
	default:
		d.warning("build", build+": it cannot talk to NVIDIA's driver", "use GPUs of NVIDIA on amd64 or arm64")
	}
}

// cgroups tells whether engines get cgroups of their own. They run as well without.
func (d *doctor) cgroups() {
	base, err := cgroup.Delegated()
	if err != nil {
		d.ok("cgroups", "%v; they are not needed, processes are found by their session and environment (a systemd unit "+
			"with Delegate=yes has them)", err)
		return
	}
	memory := "kills for lack of memory are not counted"
	if _, _, known := base.WatchOOM().Kills(); known {
		memory = "kills for lack of memory are counted"
	}
	d.ok("cgroups", "engines get their own below %s; %s", base.Path, memory)
}

// proc checks that the processes of this user can be seen: that is how a tree is found and proven to be gone.
func (d *doctor) proc() {
	const name = "/proc"
	if _, err := procfs.BootID(); err != nil {
		d.problem(name, "cannot read the boot id: "+err.Error(), "mount /proc with /proc/sys")
		return
	}
	ns, err := procfs.PIDNamespace()
	if err != nil {
		d.problem(name, "cannot read the PID namespace: "+err.Error(), "mount /proc")
		return
	}
	if _, err := os.ReadFile("/proc/self/environ"); err != nil {
		d.problem(name, "cannot read a process's environment: "+err.Error(),
			"mount /proc without restrictions for the own user")
		return
	}
	detail := "readable, " + ns
	if hidden := mountOption("/proc", "hidepid="); hidden != "" {
		detail += ", " + hidden + " (who holds a port of another user cannot be told)"
	}
	d.ok(name, "%s", detail)
}

// mountOption is the option of a mount that begins with prefix, or "".
func mountOption(path, prefix string) string {
	data, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[1] != path {
			continue
		}
		for option := range strings.SplitSeq(fields[3], ",") {
			if strings.HasPrefix(option, prefix) {
				return option
			}
		}
	}
	return ""
}
