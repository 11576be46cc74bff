// Package ephemeral knows which ports the kernel gives to outgoing connections. A server whose port is among them finds it
// taken, now and then, by a client of anything.
//
// Whoever gives a port to a server asks it. It takes no port.
package ephemeral

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Range is a range of ports, both ends included. The zero value holds none.
type Range struct{ First, Last int }

// Holds reports whether port is in the range.
func (r Range) Holds(port int) bool { return r.First <= port && port <= r.Last && port > 0 }

// Ports are those that the kernel chooses from.
type Ports struct {
	Range    Range
	Reserved []Range // never chosen
}

// OfKernel reads the ports of this network namespace. Where they cannot be read, there are none.
func OfKernel() Ports {
	return Parse(
		read("/proc/sys/net/ipv4/ip_local_port_range"), // for IPv6, too
		read("/proc/sys/net/ipv4/ip_local_reserved_ports"),
	)
}

func read(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// Parse reads the two settings, such as "32768\t60999" and "8080,9000-9010".
func Parse(local, reserved string) Ports {
	var p Ports
	if fields := strings.Fields(local); len(fields) == 2 {
		p.Range = parseRange(fields[0], fields[1])
	}
	for part := range strings.SplitSeq(strings.TrimSpace(reserved), ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		if r := parseRange(first, last); r != (Range{}) {
			p.Reserved = append(p.Reserved, r)
		}
	}
	return p
}

func parseRange(first, last string) Range {
	a, errA := strconv.Atoi(strings.TrimSpace(first))
	b, errB := strconv.Atoi(strings.TrimSpace(last))
	if errA != nil || errB != nil {
		return Range{}
	}
	return Range{a, b}
}

// May reports whether the kernel may give the port to an outgoing connection.
func (p Ports) May(port int) bool {
	for _, r := range p.Reserved {
		if r.Holds(port) {
			return false
		}
	}
	return p.Range.Holds(port)
}

// Note warns of a port that an outgoing connection may have when a server needs it; "" for any other.
func (p Ports) Note(port int) string {
	if !p.May(port) {
		return ""
	}
	return fmt.Sprintf("the kernel gives port %d to outgoing connections, too (%d-%d): a client of anything may have it when the engine starts; "+
		"choose one outside that range, or add it to the sysctl net.ipv4.ip_local_reserved_ports", port, p.Range.First, p.Range.Last)
}

// Notes are those about the ports of a launch.
func (p Ports) Notes(port int, beside []engine.Port) []string {
	var all []string
	for _, one := range append([]engine.Port{{Number: port}}, beside...) {
		if note := p.Note(one.Number); note != "" {
			all = append(all, note)
		}
	}
	return all
}
