package port

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
	"github.com/llama-orch/engine-provisioner/internal/procfs"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// listener names who listens on host and port, with its command line and what to do about it; "" when nobody is seen.
func listener(host string, port int, known Known) (owner, advice string) {
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
		return foreignHolder, adviceTaken
	}
	owner, advice = fmt.Sprintf("%q (pid %d)", tail.Clean(holder.Comm), holder.PID), adviceTaken
	if known != nil {
		if what, do := known(holder.PID); what != "" {
			owner, advice = owner+", "+what, do
		}
	}
	if line := redact.CommandLine(procfs.Cmdline(holder.PID)); line != "" {
		owner += ": " + line
	}
	return owner, advice
}

// Listener names the process that listens on host and port, for people; "" when it cannot be seen.
func Listener(host string, port int, known Known) string {
	owner, _ := listener(host, port, known)
	return owner
}

// client names who has the port as the local one of a connection, and to whom.
func client(port int) string {
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

// clientAdvice is what to do about a port that a client's connection has.
func clientAdvice(port int) string {
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
