package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// splitPattern is the name of a part of a model, such as "chat-00001-of-00003.gguf".
var splitPattern = lazyregexp.New(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// splitName takes the name of a part apart; of is 0 for a model in one file.
func splitName(name string) (prefix string, part, of int) {
	m := splitPattern.FindStringSubmatch(name)
	if m == nil {
		return "", 0, 0
	}
	part, _ = strconv.Atoi(m[2])
	of, _ = strconv.Atoi(m[3])
	return m[1], part, of
}

// SplitNames are the names of all parts of the model that name is a part of, or name alone.
func SplitNames(name string) []string {
	prefix, _, of := splitName(name)
	if of == 0 {
		return []string{name}
	}
	names := make([]string, of)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, of)
	}
	return names
}

// Parts are the files of the model at a path, or its folder; none for "".
func Parts(path string) (paths []string) {
	if path == "" {
		return nil
	}
	dir, name := filepath.Split(path)
	for _, part := range SplitNames(name) {
		paths = append(paths, filepath.Join(dir, part))
	}
	return paths
}

// checkGGUF refuses a file that llama.cpp would refuse for what stands in its header: 3 ms, where the engine takes
// seconds. A model in parts is checked as one. It is nil for what only the engine can judge.
func checkGGUF(path string) (*gguf.Model, error) {
	_, part, of := splitName(path)
	wrong := func(format string, args ...any) error {
		return &Error{Corrupt, fmt.Errorf("%q "+format, append([]any{path}, args...)...)}
	}
	if of > 0 && part != 1 {
		return nil, wrong("is part %d of a model in %d; name the first in \"model.id\"", part, of)
	}
	for i, name := range SplitNames(path) {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Missing, fmt.Errorf("part %d of %d is missing: %q; put all parts into one folder", i+1, of, name)}
		}
	}
	model, err := gguf.Open(path)
	switch {
	case errors.Is(err, gguf.ErrUnknown):
		return nil, nil
	case errors.Is(err, gguf.ErrFormat):
		return nil, wrong("is %w; fetch it again", err)
	case err != nil:
		return nil, &Error{Missing, err}
	}
	if n := model.Parts(); n > 1 && n != max(of, 1) {
		return nil, wrong("says that its model has %d parts, but its name says %d; give the parts their old names", n, max(of, 1))
	}
	return model, nil
}
