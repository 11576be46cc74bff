package exefile

import "golang.org/x/sys/unix"

// HasCapabilities reports whether an executable has capabilities of its own (setcap), such as CAP_NET_BIND_SERVICE.
func HasCapabilities(executable string) bool {
	n, err := unix.Getxattr(executable, "security.capability", nil)
	return err == nil && n > 0
}
