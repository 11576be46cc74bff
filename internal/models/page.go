package models

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

var (
	hubPage  = lazyregexp.New(`^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(.*)$`)
	pageRepo = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[^/:]+)?(:[A-Za-z0-9][A-Za-z0-9_.-]*)?$`)
)

// IsHubName reports whether a name is that of a repository of the hub, with "@revision" or ":QUANT" behind it or without.
func IsHubName(name string) bool { return pageRepo.MatchString(name) }

// OfPage is the reference to the model, or to the file of one, whose page or download of the Hugging Face hub an address is of,
// with "https://" or without: people copy it from there. It is "" for an address of another server, and the error says
// that it is a page of something else.
func OfPage(address string) (id string, err error) {
	m := hubPage.FindStringSubmatch(address)
	if m == nil {
		return "", nil
	}
	page, _, _ := strings.Cut(m[1], "#")
	page, _, _ = strings.Cut(page, "?")
	const owner, name, verb, revision, file = 0, 1, 2, 3, 4
	parts := strings.Split(strings.Trim(page, "/"), "/")
	id = strings.Join(parts[owner:min(verb, len(parts))], "/")
	switch {
	case !IsHubName(id):
		return "", errors.New(`it is no page of a model; write "hf:owner/repo" or "hf:owner/repo/file.gguf"`)
	case len(parts) == verb:
		return "hf:" + id, nil
	case len(parts) == revision || !slices.Contains([]string{"resolve", "blob", "raw", "tree"}, parts[verb]):
		return "", fmt.Errorf("it is no page of a model or of a file; write %q, or %q", "hf:"+id, "hf:"+id+"/file.gguf")
	}
	if parts[revision] != "main" {
		id += "@" + parts[revision] // with a slash in it as "%2F", as references have it, too
	}
	if len(parts) > file {
		path, err := url.PathUnescape(strings.Join(parts[file:], "/"))
		if err != nil {
			return "", errors.New("it is no URL that can be read")
		}
		id += "/" + path
	}
	return "hf:" + id, nil
}
