// Package version compares the versions of engines as they write them: of a wheel, a tag, or a running server.
//
// Engines and whoever looks at executables call it. It reads texts and nothing else.
package version

import (
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

var pattern = lazyregexp.New(`^v?([0-9]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?`)

// Number makes of a version such as "0.28.0", "0.5.15.post1" or "3.3.6-dev0" a number that grows with each
// release: 28000, 5015, 3003006. It is 0 when there is none. It says nothing about what comes after the third part, so a
// release candidate counts as its release.
func Number(version string) int {
	m := pattern.FindStringSubmatch(version)
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

// Same compares a version that an executable has with what the running engine says. What stands after "+" tells
// the build, as in "0.32.0+cpu", and not every engine says it.
func Same(a, b string) bool {
	a, buildA, _ := strings.Cut(a, "+")
	b, buildB, _ := strings.Cut(b, "+")
	return a == b && (buildA == buildB || buildA == "" || buildB == "")
}
