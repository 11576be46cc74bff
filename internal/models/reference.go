package models

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// Kind says what an engine takes for a model.
type Kind string

// The kinds.
const (
	File   Kind = ""       // a file
	GGUF   Kind = "gguf"   // a GGUF file of llama.cpp, maybe in parts
	Folder Kind = "folder" // a folder of config.json and safetensors files, or the name of a repository that the engine itself fetches
	Any    Kind = "any"    // a path or any words, which the engine gets as they are
)

// Request is a model as a configuration asks for it.
type Request struct {
	ID     string
	SHA256 string // of a model of a URL, in hex
	Dir    string // of relative paths
	Kind   Kind
}

// Ref is what a model's reference stands for. The zero value is a model that the engine finds by itself.
type Ref struct {
	Path string  // absolute, of a model on this node
	URL  string  // of a file on some server
	hub  *hubRef // of a model on the hub
	repo *hubRef // of a repository there that the engine fetches by itself
}

// Ref reads the reference by the rules of what the engine takes for a model.
func (r Request) Ref() (Ref, error) {
	id, kind := r.ID, r.Kind
	scheme := schemeOf(id)
	if scheme == "https" && r.SHA256 == "" && kind != Any {
		if page, err := OfPage(id); err == nil && page != "" {
			return Ref{}, fmt.Errorf("is an address of the Hugging Face hub; write %q", page)
		}
	}
	switch {
	case scheme == "hf" && kind == Folder:
		if err := checkHubName(id); err != nil {
			return Ref{}, err
		}
		return Ref{repo: repository(id)}, nil
	case scheme == "https" && kind == Folder, scheme == "http" && kind == Folder:
		return Ref{}, errors.New(`is a URL of one file, and this engine takes a folder; write "hf:owner/repo" or the folder's path`)
	case kind == Any && scheme != "local" && scheme != "file":
		return Ref{}, nil
	case scheme == "hf":
		ref, err := parseHubRef(id, kind)
		return Ref{hub: ref}, err
	case scheme == "https", scheme == "http":
		return Ref{URL: id}, checkModelURL(id)
	}
	path, err := LocalPath(id)
	if err != nil {
		return Ref{}, err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.Dir, path)
	}
	path, err = filepath.Abs(path)
	return Ref{Path: path}, err
}

// checkModelURL refuses what must not stand in the handoff, where the reference is for all to read.
func checkModelURL(raw string) error {
	if err := fetch.CheckURL(raw); err != nil {
		return err
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("is no URL")
	case u.User != nil:
		return errors.New("holds a user or password, which would stand in the handoff; remove it from the URL")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("holds a query or fragment, which may be a secret and would stand in the handoff; remove it from the URL")
	case splitPattern.MatchString(u.Path):
		return errors.New(`is a part of a split model, and one checksum cannot vouch for all of them; use "hf:", or fetch the parts and name the first`)
	}
	return checkFileName(path.Base(u.Path))
}

// checkFileName refuses names that would be another file than one in the folder that it goes to.
func checkFileName(name string) error {
	if !filepath.IsLocal(name) || name == "." || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%q is no name of a file", name)
	}
	return nil
}

var revisionPattern = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)

// checkHubName checks a reference that goes to the engine's own command line.
func checkHubName(id string) error {
	const form = `write "hf:owner/repo", with "@revision" behind it to pin it`
	name, revision, _ := HubName(id)
	switch {
	case !repoPattern.MatchString(name):
		return fmt.Errorf("%q is no repository; %s", name, form)
	case strings.Contains(id, "@") && !revisionPattern.MatchString(revision):
		return fmt.Errorf("%q is no revision; %s", revision, form)
	}
	return nil
}

// HubName takes apart "hf:owner/repository" and "hf:owner/repository@revision".
func HubName(ref string) (name, revision string, ok bool) {
	name, ok = strings.CutPrefix(ref, "hf:")
	name, revision, _ = strings.Cut(name, "@")
	return name, revision, ok
}

var schemePattern = lazyregexp.New(`^([A-Za-z][A-Za-z0-9+.-]+):`)

func schemeOf(ref string) string {
	if m := schemePattern.FindStringSubmatch(ref); m != nil {
		return m[1]
	}
	return ""
}

// LocalPath is the path in a model's reference, as it was written.
func LocalPath(ref string) (string, error) {
	const use = `write a path, such as "local:/models/chat.gguf"`
	path := ref
	switch scheme := schemeOf(ref); scheme {
	case "":
	case "local":
		path = strings.TrimPrefix(ref, "local:")
	case "file":
		u, err := url.Parse(ref)
		if err != nil || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || u.RawQuery != "" {
			return "", fmt.Errorf(`%q is no reference to a file; write three slashes and an absolute path, `+
				`such as "file:///models/chat.gguf"`, ref)
		}
		path = u.Path
	case "s3", "oci":
		return "", fmt.Errorf("models from %q are not supported; download the model and %s", scheme+":", use)
	default:
		return "", fmt.Errorf("%q is an unknown kind of reference; %s, or put \"./\" before the name of a file",
			scheme+":", use)
	}
	switch {
	case strings.TrimSpace(path) == "":
		return "", fmt.Errorf("%q names no file; %s", ref, use)
	case strings.ContainsRune(path, 0):
		return "", errors.New("holds a NUL character; remove it")
	case strings.HasPrefix(path, "~"):
		return "", fmt.Errorf("is %q, and ~ is not expanded; write the whole path", ref)
	}
	return path, nil
}
