package provisioner

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
	"github.com/llama-orch/engine-provisioner/internal/proc"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// portListener names who listens on host and port, with its command line and what to do about it; "" when nobody is seen.
func portListener(host string, port int) (owner, advice string) {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", ""
	}
	inodes, err := procfs.Listeners(os.Getpid(), addr, uint16(port))
	if err == nil && len(inodes) == 0 && addr.IsUnspecified() { // all addresses cannot be had where somebody has one
		inodes, err = procfs.Listening(uint16(port))
	}
	if err != nil || len(inodes) == 0 {
		return "", ""
	}
	holder, seen := procfs.Holder(inodes)
	if !seen {
		return foreignHolder, adviceTakenPort
	}
	owner, advice = fmt.Sprintf("%q (pid %d)", tail.Clean(holder.Comm), holder.PID), adviceTakenPort
	if files, rec, ok := recordOf(holder.PID); ok {
		owner += fmt.Sprintf(", the engine %s/%s of the state directory %q", rec.Pool, rec.Replica, files.State)
		advice = fmt.Sprintf(`stop that one (engine-provisioner stop --state-dir %s --pool %s), or change "port"`, files.State, rec.Pool)
	}
	if line := commandLine(procfs.Cmdline(holder.PID)); line != "" {
		owner += ": " + line
	}
	return owner, advice
}

// portClient names who has the port as the local one of a connection, and to whom.
func portClient(port int) string {
	all, err := procfs.Connections(uint16(port))
	if err != nil {
		return ""
	}
	for _, c := range all {
		if c.Inode == 0 { // a closed one keeps nobody from listening
			continue
		}
		name := foreignHolder
		if holder, seen := procfs.Holder([]uint64{c.Inode}); seen {
			name = fmt.Sprintf("%q (pid %d)", tail.Clean(holder.Comm), holder.PID)
		}
		return name + " to " + c.Remote.String()
	}
	return ""
}

const foreignHolder = "a process of another user"

// recordOf finds the record of the launch that a process belongs to: whoever carries a launch's mark prints to its log.
func recordOf(pid int) (replicaFiles, record, bool) {
	id, marked := procfs.Env(pid, proc.MarkEnv)
	dir := filepath.Dir(filepath.Dir(procfs.Output(pid))) // <state>/<replica>/logs/<n>.log
	if !marked || !filepath.IsAbs(dir) {
		return replicaFiles{}, record{}, false
	}
	files := filesIn(filepath.Dir(dir), filepath.Base(dir))
	rec, err := files.readRecord()
	return files, rec, err == nil && rec.LaunchID == id
}

var (
	secretFlag = regexp.MustCompile(`(?i)^-.*(?:key|token|secret|password|passwd|credentials?|auth)$`)
	secretText = regexp.MustCompile(`(?i)((?:key|token|secret|password|passwd|credentials?)(?:=|: ?)|bearer )[^\s]+`)
	userInURL  = regexp.MustCompile(`://[^/@\s]+@`)
)

// commandLine is a process's command line for people: short, and without what may be a secret. Others can see it in ps,
// but not in our logs.
func commandLine(args []string) string {
	const most = 240
	var shown []string
	hide := false
	for _, arg := range args {
		flag := strings.HasPrefix(arg, "-")
		if hide && !flag {
			arg = redacted
		}
		hide = hide && !flag || secretFlag.MatchString(arg) // a flag may take several
		shown = append(shown, strings.Join(strings.Fields(arg), " "))
	}
	line := secretText.ReplaceAllString(strings.Join(shown, " "), "${1}"+redacted)
	line = tail.Clean(userInURL.ReplaceAllString(line, "://"+redacted+"@"))
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return line
}

// adviceClientPort is what to do about a port that a client's connection has.
func adviceClientPort(port int) string {
	if ports := ephemeral.OfKernel(); ports.May(port) {
		return fmt.Sprintf(`it passes when that connection ends; take a "port" outside %d-%d, from which the kernel gives to clients, or reserve this one (sysctl net.ipv4.ip_local_reserved_ports=%d)`,
			ports.Range.First, ports.Range.Last, port)
	}
	return `it passes when that connection ends; or change "port"`
}

// forbiddenAdvice is what to do about a port that this user may not use.
func forbiddenAdvice(port int) string {
	if first := unprivilegedPort(); port < first {
		return fmt.Sprintf(`take a "port" from %d on, or give the right: CAP_NET_BIND_SERVICE (AmbientCapabilities= of a systemd unit), or sysctl net.ipv4.ip_unprivileged_port_start=%d`, first, port)
	}
	return `change "port", or look at the rules of the host's security module (SELinux: semanage port)`
}

// unprivilegedPort is the first port that needs no right.
func unprivilegedPort() int {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	first := 0
	if _, scanErr := fmt.Sscan(string(data), &first); err != nil || scanErr != nil {
		return 1024
	}
	return first
}
