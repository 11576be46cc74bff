//go:build !linux || !(amd64 || arm64) || static

package nvml

// Available tells whether this build can open the library.
const Available = false

// Open stands for a library that this build cannot open.
func Open(string) Library { return nil }
