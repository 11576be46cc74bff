package llamacpp

import (
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
)

// noteBeside tells of what "llama-server -hf" would fetch with the model, and the provisioner does not, unless the user has
// said something of it.
func noteBeside(m *flagline.Line, files []engine.Companion) {
	for _, c := range files {
		switch {
		case c.Draft && m.Says("spec-draft-model", "model-draft", "spec-draft-hf", "hf-repo-draft"):
		case c.Draft && c.Path != "":
			m.Note("model.id", `the repository has a model that drafts for this one (%s), which is not used: to have it, write "--model-draft %s" in "flags"`, c.Name, c.Path)
		case c.Draft:
			m.Note("model.id", `the repository has a model that drafts for this one (%s), which is not fetched: to have it, fetch %s, and name it with "--model-draft" in "flags"`, c.Name, c.URL)
		case m.Says("mmproj", "mmproj-url", "mmproj-auto"):
		case c.Path != "":
			m.Note("model.id", `the repository has a projector for images or sound (%s), which is not used: to have it, write "--mmproj %s" in "flags", or "--no-mmproj" to do without`, c.Name, c.Path)
		default:
			m.Note("model.id", `the repository has a projector for images or sound (%s), which is not fetched: to have it, write "--mmproj-url %s" in "flags", or "--no-mmproj" to do without`, c.Name, c.URL)
		}
	}
}
