package provisioner

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// modelPath is the absolute path that the model's reference stands for, and "" where the engine resolves it itself.
func (c ProvisionConfig) modelPath(kind ModelKind) (string, error) {
	if _, _, ok := hubModel(c.Model.ID); ok && kind == ModelFolder {
		return "", nil
	}
	if kind == ModelAny && !strings.HasPrefix(c.Model.ID, "local:") && !strings.HasPrefix(c.Model.ID, "file:") {
		return "", nil
	}
	path, err := localPath(c.Model.ID)
	if err != nil {
		return "", err
	}
	return filepath.Abs(c.resolve(path))
}

// hubModel takes apart "hf:owner/repository" and "hf:owner/repository@revision".
func hubModel(ref string) (name, revision string, ok bool) {
	name, ok = strings.CutPrefix(ref, "hf:")
	name, revision, _ = strings.Cut(name, "@")
	return name, revision, ok
}

var schemePattern = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]+):`)

// localPath is the path in a model's reference, as it was written.
func localPath(ref string) (string, error) {
	const use = `write a path, such as "local:/models/chat.gguf"`
	scheme := ""
	if m := schemePattern.FindStringSubmatch(ref); m != nil {
		scheme = m[1]
	}
	path := ref
	switch scheme {
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
	case "hf", "https", "http", "s3", "oci":
		return "", fmt.Errorf("models from %q are not supported yet; download the model and %s", scheme+":", use)
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

// modelError says that the model is not there or cannot be read.
type modelError struct{ err error }

func (e *modelError) Error() string {
	return fmt.Sprintf("cannot use the model: %v; check \"model.id\"", e.err)
}
func (e *modelError) Unwrap() error { return e.err }

// checkModel finds out in microseconds what the engine would say after its start.
func checkModel(cfg ProvisionConfig, kind ModelKind) (string, error) {
	path, err := cfg.modelPath(kind)
	if err != nil {
		return "", &modelError{err}
	}
	if path == "" {
		return "", nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would make it wait for a writer
	if err != nil {
		return "", &modelError{err}
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", &modelError{err}
	case !info.Mode().IsRegular() && !info.IsDir(): // some engines take a folder
		return "", &modelError{fmt.Errorf("%q is a %s", path, kindOf(info))}
	case info.Size() == 0 && info.Mode().IsRegular():
		return "", &modelError{&fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("the file is empty")}}
	}
	return path, nil
}
