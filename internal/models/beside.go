package models

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// Companion is a file of a model's repository that is of use beside the model and is not fetched with it, although
// "llama-server -hf" would.
type Companion struct {
	Name  string // in the repository
	Path  string // absolute; "" where the cache has it not
	URL   string // where it can be had
	Draft bool   // it drafts for the model; else it is a projector, with which the model takes images or sound
}

// draftName is how llama-server tells the models that draft for the one they lie beside (b11669).
var draftName = lazyregexp.New(`^(mtp|eagle3|dflash)-`)

// isDraft reports whether a file drafts for the model beside it, and isProjector whether it is a projector.
func isDraft(name string) bool {
	return strings.HasSuffix(name, ".gguf") && draftName.MatchString(strings.ToLower(path.Base(name)))
}

func isProjector(name string) bool {
	return strings.HasSuffix(name, ".gguf") && strings.Contains(strings.ToLower(path.Base(name)), "mmproj")
}

// besideNames are one projector and one draft among the files of a repository, as far as there are any.
func besideNames(names []string) (all []string) {
	sorted := slices.Sorted(slices.Values(names))
	for _, is := range []func(string) bool{isProjector, isDraft} {
		if i := slices.IndexFunc(sorted, is); i >= 0 {
			all = append(all, sorted[i])
		}
	}
	return all
}

// beside are the companions of a model at a commit.
func (h hub) beside(ref hubRef, commit string, names []string) []Companion {
	var all []Companion
	snapshot := filepath.Join(h.folder(ref.repo), "snapshots", commit)
	for _, name := range besideNames(names) {
		if name == ref.file {
			continue // it is what is asked for
		}
		c := Companion{
			Name: name, Draft: isDraft(name),
			URL: fetch.Redact(h.endpoint) + "/" + ref.repo + "/resolve/" + commit + "/" + escapePath(name),
		}
		if file := filepath.Join(snapshot, filepath.FromSlash(name)); regular(file) {
			c.Path = file
		}
		all = append(all, c)
	}
	return all
}
