package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/fetch"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
)

// modelRef is what a model's reference stands for. The zero value is a model that the engine finds by itself.
type modelRef struct {
	path string  // absolute, of a model on this node
	hub  *hubRef // of a model on the hub
	repo *hubRef // of a repository there that the engine fetches by itself
	url  string  // of a file on some server
}

// modelRef reads the reference by the rules of what the engine takes for a model.
func (c ProvisionConfig) modelRef(kind ModelKind) (modelRef, error) {
	id := c.Model.ID
	scheme := schemeOf(id)
	switch {
	case scheme == "hf" && kind == ModelFolder:
		if err := checkHubName(id); err != nil {
			return modelRef{}, err
		}
		return modelRef{repo: repository(id)}, nil
	case scheme == "https" && kind == ModelFolder, scheme == "http" && kind == ModelFolder:
		return modelRef{}, errors.New(`is a URL of one file, and this engine takes a folder; write "hf:owner/repo" or the folder's path`)
	case kind == ModelAny && scheme != "local" && scheme != "file":
		return modelRef{}, nil
	case scheme == "hf":
		ref, err := parseHubRef(id, kind)
		return modelRef{hub: ref}, err
	case scheme == "https", scheme == "http":
		return modelRef{url: id}, checkModelURL(id)
	}
	path, err := localPath(id)
	if err != nil {
		return modelRef{}, err
	}
	path, err = filepath.Abs(c.resolve(path))
	return modelRef{path: path}, err
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

// modelPath is the absolute path of a model that must be on this node, and "" for one that comes from elsewhere.
func (c ProvisionConfig) modelPath(kind ModelKind) (string, error) {
	ref, err := c.modelRef(kind)
	return ref.path, err
}

var revisionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)

// checkHubName checks a reference that goes to the engine's own command line.
func checkHubName(id string) error {
	const form = `write "hf:owner/repo", with "@revision" behind it to pin it`
	name, revision, _ := hubModel(id)
	switch {
	case !repoPattern.MatchString(name):
		return fmt.Errorf("%q is no repository; %s", name, form)
	case strings.Contains(id, "@") && !revisionPattern.MatchString(revision):
		return fmt.Errorf("%q is no revision; %s", revision, form)
	}
	return nil
}

// hubModel takes apart "hf:owner/repository" and "hf:owner/repository@revision".
func hubModel(ref string) (name, revision string, ok bool) {
	name, ok = strings.CutPrefix(ref, "hf:")
	name, revision, _ = strings.Cut(name, "@")
	return name, revision, ok
}

var schemePattern = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]+):`)

func schemeOf(ref string) string {
	if m := schemePattern.FindStringSubmatch(ref); m != nil {
		return m[1]
	}
	return ""
}

// localPath is the path in a model's reference, as it was written.
func localPath(ref string) (string, error) {
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

// modelError says that the model is not there, cannot be had or is of no use.
type modelError struct {
	cause Cause
	err   error
}

func (e *modelError) Error() string { return fmt.Sprintf("cannot use the model: %v", e.err) }
func (e *modelError) Unwrap() error { return e.err }

// stagedModel is where the model of a launch is, or will be when its files are there.
type stagedModel struct {
	path  string       // absolute; "" when the engine resolves the reference itself or has none
	kind  ModelKind    // what the engine takes
	files []remoteFile // to be downloaded; none when all is here
	done  func() error // when they are there
	gguf  *gguf.Model  // its header, when it is here and is one

	revision string // commit of a model that the engine fetches by itself; "" where it is not known

	note    *hubNote // of a model that comes from the hub
	pending string   // what is to be downloaded, for people; "" for nothing
}

// findModel finds out where the model is, in microseconds where it is here. For one that is not, it asks the server what
// there is, and downloads nothing. With refresh it also asks whether a branch or tag has moved.
func (o *options) findModel(ctx context.Context, cfg ProvisionConfig, kind ModelKind, refresh bool) (stagedModel, error) {
	ref, err := cfg.modelRef(kind)
	if err != nil {
		return stagedModel{}, &modelError{CauseModelMissing, fmt.Errorf("%w; check \"model.id\"", err)}
	}
	m := stagedModel{path: ref.path, kind: kind}
	switch {
	case ref.hub != nil:
		m, err = o.findHubModel(ctx, cfg, *ref.hub, refresh)
	case ref.repo != nil:
		m, err = o.pinHubModel(ctx, cfg, *ref.repo, refresh)
	case ref.url != "":
		m, err = o.findURLModel(cfg, ref.url)
	}
	if err != nil {
		return stagedModel{}, modelProblem(err)
	}
	m.kind = kind
	if len(m.files) > 0 {
		err = m.size()
	} else {
		err = m.check()
	}
	if id := cfg.Model.ID; errors.Is(err, fs.ErrNotExist) && repoPattern.MatchString(id) { // as vllm itself takes it
		err = &modelError{CauseModelMissing, fmt.Errorf(`%w, or write "hf:%s" for a repository of the Hugging Face hub`, errors.Unwrap(err), id)}
	}
	return m, err
}

// check finds out what the engine would say after its start.
func (m *stagedModel) check() (err error) {
	if m.path == "" {
		return nil
	}
	f, err := os.OpenFile(m.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would make it wait for a writer
	if err != nil {
		if denied := access.Denied(m.path, "read"); denied != "" {
			return &modelError{CauseModelMissing, fmt.Errorf("%w: %s; give that user the right (chmod, chown), or run as the owner", err, denied)}
		}
		return &modelError{CauseModelMissing, fmt.Errorf("%w; check \"model.id\"", err)}
	}
	defer f.Close()
	info, err := f.Stat()
	wrong := func(cause Cause, format string, args ...any) error {
		return &modelError{cause, fmt.Errorf(format+"; check \"model.id\"", args...)}
	}
	switch {
	case err != nil:
		return wrong(CauseModelMissing, "%w", err)
	case !info.Mode().IsRegular() && !info.IsDir(): // some engines take a folder
		return wrong(CauseModelMissing, "%q is a %s", m.path, access.Kind(info))
	case info.IsDir() && m.kind == ModelGGUF:
		return wrong(CauseModelMissing, "%q is a folder; name the GGUF file in it", m.path)
	case info.Size() == 0 && info.Mode().IsRegular():
		return &modelError{CauseModelCorrupt, fmt.Errorf("%q is empty; fetch it again", m.path)}
	case m.kind == ModelGGUF:
		m.gguf, err = checkGGUF(m.path)
	}
	return err
}
