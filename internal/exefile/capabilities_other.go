//go:build !linux

package exefile

// HasCapabilities: only Linux has them.
func HasCapabilities(string) bool { return false }
