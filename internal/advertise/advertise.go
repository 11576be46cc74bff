// Package advertise finds the address by which others reach this machine, as "advertise" in a pools file asks for it.
//
// A start calls it, and the check of a configuration. It looks at names and interfaces of this machine, and asks nobody.
package advertise

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// PodIP is the variable that has the address of a pod, by Kubernetes' downward API.
const PodIP = "POD_IP"

var (
	hostName      = lazyregexp.New(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)
	interfaceName = lazyregexp.New(`^\{interface:([^{}/\s]{1,15})\}$`)
)

// Bad says what is wrong with a text that is no address and stands for none; "" for nothing.
func Bad(text string) string {
	switch {
	case text == "{hostname}", text == "{pod_ip}", interfaceName.MatchString(text):
		return ""
	case isHost(text):
		return ""
	}
	return fmt.Sprintf(`must be a name or an address without a port, or "{hostname}", "{pod_ip}" or "{interface:NAME}" in quotes, is %q`, text)
}

func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || len(text) <= 253 && hostName.MatchString(text)
}

// Host is the name or address that text stands for on this machine; "" for "".
func Host(text string) (string, error) {
	switch m := interfaceName.FindStringSubmatch(text); {
	case text == "{hostname}":
		name, err := os.Hostname()
		if err == nil && !isHost(name) {
			err = fmt.Errorf("this machine is named %q, which is no name of a host", name)
		}
		if err != nil {
			return "", fmt.Errorf("cannot tell \"{hostname}\": %w; write the name itself", err)
		}
		return name, nil
	case text == "{pod_ip}":
		if addr, err := netip.ParseAddr(os.Getenv(PodIP)); err == nil {
			return addr.String(), nil
		}
		return "", fmt.Errorf("cannot tell \"{pod_ip}\": the variable %s has no address; have the pod set it from status.podIP (fieldRef)", PodIP)
	case m != nil:
		return ofInterface(m[1])
	}
	return text, nil
}

// ofInterface is the first address of an interface that others can use, of IPv4 rather than of IPv6.
func ofInterface(name string) (string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("cannot tell the address of the interface %q: %w; %s", name, errors.Unwrap(err), known())
	}
	addrs, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("cannot tell the address of the interface %q: %w", name, err)
	}
	best := netip.Addr{}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if addr := prefix.Addr().Unmap(); err == nil && !addr.IsLinkLocalUnicast() && (!best.IsValid() || addr.Is4() && best.Is6()) {
			best = addr
		}
	}
	if !best.IsValid() {
		return "", fmt.Errorf("the interface %q has no address; %s", name, known())
	}
	return best.String(), nil
}

// known says which interfaces there are.
func known() string {
	var names []string
	all, err := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 {
			names = append(names, i.Name)
		}
	}
	if err != nil || names == nil {
		return "name another one"
	}
	return "there are " + strings.Join(names, ", ")
}
