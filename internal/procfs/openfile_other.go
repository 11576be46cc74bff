//go:build !linux

package procfs

import "os"

func openFile(string, int, func(string) bool) *os.File { return nil }
