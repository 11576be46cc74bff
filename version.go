package provisioner

import (
	"regexp"
	"strconv"
)

var versionPattern = regexp.MustCompile(`^v?([0-9]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?`)

// versionNumber makes of a version such as "0.28.0", "0.5.15.post1" or "3.3.6-dev0" a number that grows with each
// release: 28000, 5015, 3003006. It is 0 when there is none. It says nothing about what comes after the third part, so a
// release candidate counts as its release.
func versionNumber(version string) int {
	m := versionPattern.FindStringSubmatch(version)
	if m == nil {
		return 0
	}
	n := 0
	for _, part := range m[1:] {
		digits, _ := strconv.Atoi(part) // "" is 0
		n = n*1000 + digits
	}
	return n
}
