package models

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// IsRepository reports whether name is of the form "owner/name".
func IsRepository(name string) bool { return repoPattern.MatchString(name) }

// IsCommit reports whether a revision is a commit, in full.
func IsCommit(revision string) bool { return commitPattern.MatchString(revision) }

// hubRef is a model in a repository of the Hugging Face hub: one file of it, or the quantization that fits.
type hubRef struct {
	repo, revision string // "owner/name", and a branch, tag or commit
	file           string // path in the repository; "" to choose by quant
	quant          string // such as "Q4_K_M"; "" for the usual one
}

var (
	repoPattern   = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$`)
	quantPattern  = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	commitPattern = lazyregexp.New(`^[0-9a-f]{40}$`)
	digestPattern = lazyregexp.New(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// parseHubRef reads "hf:owner/repo[@revision]/file" and, for engines that take GGUF files, "hf:owner/repo[@revision][:QUANT]".
func parseHubRef(id string, kind Kind) (*hubRef, error) {
	const forms = `write "hf:owner/repo/file.gguf" or "hf:owner/repo:QUANT", with "@revision" behind the repository to pin it`
	rest := strings.TrimPrefix(id, "hf:")
	owner, rest, _ := strings.Cut(rest, "/")
	end := strings.IndexAny(rest, "@/:")
	if end < 0 {
		end = len(rest)
	}
	ref := &hubRef{repo: strings.TrimSuffix(owner+"/"+rest[:end], "/"), revision: "main"}
	rest = rest[end:]
	if after, ok := strings.CutPrefix(rest, "@"); ok {
		end := strings.IndexAny(after, "/:")
		if end < 0 {
			end = len(after)
		}
		var err error
		// A slash in a revision is written as the hub does in its URLs: refs%2Fpr%2F1.
		if ref.revision, err = url.PathUnescape(after[:end]); err != nil || !filepath.IsLocal(ref.revision) ||
			strings.ContainsAny(ref.revision, " \\?*[^~:") {
			return nil, fmt.Errorf("%q is no revision; %s", after[:end], forms)
		}
		rest = after[end:]
	}
	switch {
	case !repoPattern.MatchString(ref.repo) || strings.Contains(ref.repo, "--") || strings.Contains(ref.repo, ".."):
		return nil, fmt.Errorf("%q is no repository; %s", ref.repo, forms)
	case strings.HasPrefix(rest, "/"):
		ref.file = rest[1:]
		if err := checkFileName(ref.file); err != nil {
			return nil, fmt.Errorf("%w; %s", err, forms)
		}
		if _, part, of := splitName(ref.file); of > 0 && part != 1 {
			return nil, fmt.Errorf("%q is part %d of a model in %d; name the first, and all are fetched", ref.file, part, of)
		}
		return ref, nil
	case kind != GGUF:
		return nil, fmt.Errorf(`%q names no file; write "hf:owner/repo/file"`, id)
	}
	ref.quant = strings.TrimPrefix(rest, ":")
	if rest != "" && !quantPattern.MatchString(ref.quant) {
		return nil, fmt.Errorf("%q is no quantization; %s", ref.quant, forms)
	}
	return ref, nil
}

// repository is the one of a reference that an engine resolves; nil where it is of a form that only the engine may know.
func repository(id string) *hubRef {
	name, revision, _ := HubName(id)
	ref := &hubRef{repo: name, revision: cmp.Or(revision, "main")}
	if !repoPattern.MatchString(name) || !filepath.IsLocal(ref.revision) {
		return nil
	}
	return ref
}

// defaultQuant is llama-server's for "-hf owner/repo".
const defaultQuant = "Q4_K_M"

// choose picks the files of the model among those of a repository, as llama-server does: the quantization in the name,
// in any case, and without one the default, or else the first model if first is set.
func (r hubRef) choose(names []string, first bool) []string {
	if r.file != "" {
		return allParts(r.file, names)
	}
	names = slices.Sorted(slices.Values(names))
	named := func(quant string) []string {
		word := regexp.MustCompile(`(?i)(^|[-._/])` + regexp.QuoteMeta(quant) + `([-./]|$)`)
		for _, name := range names {
			if isModelFile(name) && word.MatchString(strings.TrimSuffix(name, ".gguf")) {
				if all := allParts(name, names); all != nil {
					return all
				}
			}
		}
		return nil
	}
	if r.quant != "" {
		return named(r.quant)
	}
	if all := named(defaultQuant); all != nil || !first {
		return all
	}
	for _, name := range names {
		if all := allParts(name, names); isModelFile(name) && all != nil {
			return all
		}
	}
	return nil
}

// isModelFile leaves out what is in a GGUF file and no model, and all parts of a model but the first.
func isModelFile(name string) bool {
	base := strings.ToLower(path.Base(name))
	_, part, of := splitName(name)
	return strings.HasSuffix(name, ".gguf") && !strings.Contains(base, "mmproj") && !strings.Contains(base, "imatrix") && !isDraft(name) &&
		(of == 0 || part == 1)
}

// allParts is the parts of a model, nil unless all are among names.
func allParts(name string, names []string) []string {
	all := SplitNames(name)
	for _, part := range all {
		if !slices.Contains(names, part) {
			return nil
		}
	}
	return all
}

// noFile says that nothing in the repository fits, and what there is.
func (r hubRef) noFile(names []string) error {
	var models []string
	for _, name := range slices.Sorted(slices.Values(names)) {
		if isModelFile(name) {
			models = append(models, name)
		}
	}
	there := "it holds no GGUF file"
	if len(models) > 0 {
		const most = 20
		there = "it holds " + tail.Names(models[:min(most, len(models))])
		if len(models) > most {
			there += fmt.Sprintf(" and %d more", len(models)-most)
		}
	}
	what := cmp.Or(r.file, r.quant)
	if what == "" {
		return fmt.Errorf("%q has no model at %q: %s", r.repo, r.revision, there)
	}
	return fmt.Errorf("%q has no %q at %q: %s", r.repo, what, r.revision, there)
}
