package flagline

import (
	"fmt"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Pin is the version that a request asks for; the zero value means that it does not say one.
type Pin struct {
	Build int    // as Binary.Build has it
	By    string // what says so, for messages, such as `the image tag "v0.10.0"`
}

// PinnedBy is the pin of a version, of which an engine has read the build.
func PinnedBy(v engine.Version, build int) Pin {
	return Pin{build, fmt.Sprintf("the %s %q", v.From, v.Name)}
}
