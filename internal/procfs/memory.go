package procfs

import (
	"fmt"
	"os"
	"strings"
)

// MemAvailable is how many bytes of memory can be had without swapping; false where that cannot be told.
func MemAvailable() (bytes uint64, ok bool) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &bytes); err == nil {
			return bytes << 10, true
		}
	}
	return 0, false
}
