//go:build unix && !linux

package provisioner

// boundSilently cannot be told without /proc.
func boundSilently(string, int) bool { return false }

// listenerOwner cannot be told without /proc.
func listenerOwner(string, int) string { return "" }

// hasCapabilities: only Linux has them.
func hasCapabilities(string) bool { return false }
