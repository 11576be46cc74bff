package provisioner

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

var (
	// "version: 0.7.0 (build 11669, commit Debian)", since b10394 (llama.cpp #26839).
	llamaVersion = regexp.MustCompile(`(?m)^version: \S+ \(build ([0-9]{1,9}), commit ([^\s()]+)\)\s*$`)
	// "version: 7951 (22cae8321)", before.
	llamaVersionOld = regexp.MustCompile(`(?m)^version: ([0-9]{1,9}) \(([^\s()]+)\)\s*$`)
	// "b11669-Debian", in /props and from the unified "llama --version".
	llamaBuildInfo = regexp.MustCompile(`(?m)^b([0-9]{1,9})-(\S+)\s*$`)
)

// parseLlamaVersion reads what llama-server --version prints, among warnings. The version has the form of build_info
// in /props, so that the running engine can be compared with the file.
func parseLlamaVersion(output string) (version string, build int, err error) {
	for _, format := range []*regexp.Regexp{llamaVersion, llamaVersionOld, llamaBuildInfo} {
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
	m := llamaBuildInfo.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	build, err := strconv.Atoi(m[1])
	return build, err == nil
}
