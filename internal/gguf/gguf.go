// Package gguf reads the headers of GGUF models and estimates the memory that llama.cpp needs to run them. It reads no
// weights, so it takes milliseconds for models of any size.
//
// A header is somebody else's: it may be cut off, damaged or made to do harm. Here it is scanned against the size of its
// file and against what is possible, and what the estimate is computed from has passed that. So whatever a file holds,
// Open and Estimate do not panic, take no more memory than a small multiple of the header, and no more than a moment.
package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	parser "github.com/gpustack/gguf-parser-go"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

var (
	// ErrFormat is wrapped by the errors of files that are there and are no whole GGUF, or have in it what no engine can
	// read. The error names the key or the tensor.
	ErrFormat = errors.New("not a valid GGUF file")
	// ErrUnknown is wrapped by the errors of files that use what this package does not know, and a new engine may.
	ErrUnknown = errors.New("a GGUF file of a kind that is not known here")
)

// Model is the header of a model, of all its parts when it is split. It is not changed after Open, and safe for
// concurrent use.
type Model struct {
	file      parser.GGUFFile // what the estimate is computed from
	arch      string
	parts     int
	estimable bool
}

// Open reads the header of the model at path. For a split model, "…-00001-of-0000N.gguf", path is any of its parts, and
// all must be there. The error wraps that of package os when a file cannot be read, ErrFormat when it is no GGUF or ends
// too soon, and ErrUnknown when that cannot be judged.
func Open(path string) (*Model, error) {
	m := &Model{}
	var foreign error
	for i, part := range partsOf(path) {
		h, err := scanFile(part)
		if err != nil {
			return nil, err
		}
		if i == 0 { // what the others have of metadata is about themselves
			if err := h.check(); err != nil {
				return nil, err
			}
			m.arch = h.keys[keyArchitecture].text
			m.file.Header.MetadataKV, m.estimable = h.estimable()
			if v := h.keys[keyParts]; v.kind.whole() && v.number <= maxParts {
				m.parts = int(v.number)
			}
		}
		foreign = errors.Join(foreign, h.foreign)
		m.file.TensorInfos = append(m.file.TensorInfos, h.tensors...)
		m.file.Size += parser.GGUFBytesScalar(h.size)
		m.file.ModelSize += parser.GGUFBytesScalar(max(0, h.size-h.data))
	}
	if foreign != nil {
		return nil, foreign
	}
	m.estimable = m.estimable && len(m.file.TensorInfos) <= maxEstimated
	return m, nil
}

const (
	maxParts = 99999 // which have room in the name of one

	// maxEstimated is how many tensors an estimate is computed for: each costs it 10 to 20 µs. The models of 2026 have 2,000
	// at most, where the experts of a layer are one.
	maxEstimated = 1 << 12
)

var partPattern = lazyregexp.New(`^(.*)-\d{5}-of-(\d{5})\.gguf$`)

// partsOf are the paths of all parts, in their order.
func partsOf(path string) []string {
	name := partPattern.FindStringSubmatch(path)
	if name == nil {
		return []string{path}
	}
	count, _ := strconv.Atoi(name[2])
	if count == 0 {
		return []string{path}
	}
	paths := make([]string, count)
	for i := range paths {
		paths[i] = fmt.Sprintf("%s-%05d-of-%s.gguf", name[1], i+1, name[2])
	}
	return paths
}

func scanFile(path string) (*header, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would make it wait for a writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("is no regular file")}
	case info.Size() == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	}
	return scan(f, info.Size())
}

// Parts is how many parts the model says that it has; 0 when it says nothing of it.
func (m *Model) Parts() int { return m.parts }

// Architecture is what the model calls its kind, such as "llama".
func (m *Model) Architecture() string { return m.arch }

// Size is the number of bytes of all its files.
func (m *Model) Size() uint64 { return uint64(m.file.Size) }
