package llamacpp

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

var (
	// "version: 0.7.0 (build 11669, commit Debian)", since b10394 (llama.cpp #26839).
	versionLine = lazyregexp.New(`(?m)^version: \S+ \(build ([0-9]{1,9}), commit ([^\s()]+)\)\s*$`)
	// "version: 7951 (22cae8321)", before.
	versionLineOld = lazyregexp.New(`(?m)^version: ([0-9]{1,9}) \(([^\s()]+)\)\s*$`)
	// "b11669-Debian", in /props and from the unified "llama --version".
	buildInfo = lazyregexp.New(`(?m)^b([0-9]{1,9})-(\S+)\s*$`)
)

// parseVersion reads what llama-server --version prints, among warnings. The version has the form of build_info
// in /props, so that the running engine can be compared with the file.
func parseVersion(output string) (version string, build int, err error) {
	for _, format := range []*lazyregexp.Regexp{versionLine, versionLineOld, buildInfo} {
		if m := format.FindStringSubmatch(output); m != nil {
			build, err := strconv.Atoi(m[1])
			if err != nil {
				return "", 0, fmt.Errorf("cannot read the build number %q: %w", m[1], err)
			}
			return fmt.Sprintf("b%d-%s", build, m[2]), build, nil
		}
	}
	return "", 0, errors.New(`cannot find the version: no line like "version: 0.7.0 (build 11669, commit abc)"`)
}

// parseBuildInfo reads the build number of build_info in /props, such as "b11669-Debian".
func parseBuildInfo(s string) (build int, ok bool) {
	m := buildInfo.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	build, err := strconv.Atoi(m[1])
	return build, err == nil
}

var releaseTag = lazyregexp.New(`^b([0-9]{1,9})$`)

// sourceFlags builds the server and nothing that needs a network. The build's number is the count of commits, which
// cannot be counted in a shallow clone; 0 stands for an unknown one.
func sourceFlags(ref, commit string) []string {
	number := "0"
	if m := releaseTag.FindStringSubmatch(ref); m != nil {
		number = m[1]
	}
	flags := []string{
		"-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
		"-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", // both would fetch it
		"-DLLAMA_CURL=OFF", // builds of 2025 need its headers otherwise; models come from the provisioner
		"-DLLAMA_BUILD_NUMBER=" + number,
	}
	if len(commit) >= 9 {
		flags = append(flags, "-DLLAMA_BUILD_COMMIT="+commit[:9])
	}
	return flags
}

var tagIn = lazyregexp.New(`(?:^|[-_])b([0-9]{4,6})(?:$|[-_])`)

// pinned reads the tag of a release ("b8895") or of an image ("server-cuda-b8895"), also of somebody else's: nothing
// but llama.cpp counts like that.
func pinned(r engine.Request) flagline.Pin {
	for _, v := range r.Versions {
		if m := tagIn.FindStringSubmatch(v.Name); m != nil {
			build, _ := strconv.Atoi(m[1])
			return flagline.PinnedBy(v, build)
		}
	}
	return flagline.Pin{}
}
