package procfs

import (
	"os"
	"strings"
)

// Cmdline is the command line of a process; nil when it cannot be seen. Of long ones, it is the first 64 KiB.
func Cmdline(pid int) []string {
	f, err := os.Open(path(pid, "cmdline"))
	if err != nil {
		return nil
	}
	defer f.Close()
	data := make([]byte, 64<<10)
	n, _ := f.Read(data)
	text := strings.TrimRight(string(data[:n]), "\x00")
	if text == "" { // a thread of the kernel's, or a process that has ended
		return nil
	}
	return strings.Split(text, "\x00")
}

// Output is where a process writes its standard output, such as "/srv/log"; "" when that cannot be seen.
func Output(pid int) string {
	target, _ := os.Readlink(path(pid, "fd/1"))
	return target
}
