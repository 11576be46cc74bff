// Package gguf reads the headers of GGUF models and estimates the memory that llama.cpp needs to run them. It reads no
// weights, so it takes milliseconds for models of any size.
package gguf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	parser "github.com/gpustack/gguf-parser-go"
)

// ErrFormat is wrapped by the errors of files that are there and are no whole GGUF.
var ErrFormat = errors.New("not a usable GGUF file")

// Model is the header of a model, of all its parts when it is split. It is not changed after Open, and safe for
// concurrent use.
type Model struct{ file *parser.GGUFFile }

// Open reads the header of the model at path. For a split model, "…-00001-of-0000N.gguf", path is any of its parts, and
// all must be there. The error is an fs.PathError when a file cannot be read, and wraps ErrFormat when it can and is
// none, or ends too soon.
func Open(path string) (_ *Model, err error) {
	parts := parser.CompleteShardGGUFFilename(path)
	if parts == nil {
		parts = []string{path}
	}
	for _, part := range parts {
		if err := checkMagic(part); err != nil {
			return nil, err
		}
	}
	// The parser panics on some metadata of a wrong type.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %q: %v", ErrFormat, path, p)
		}
	}()
	file, err := parser.ParseGGUFFile(path, parser.SkipLargeMetadata())
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%w: %q ends within its header", ErrFormat, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrFormat, path, err)
	}
	if want := file.TensorInfos.Bytes(); want > uint64(file.ModelSize) {
		return nil, fmt.Errorf("%w: %q is truncated: its weights need %d bytes, and there are %d", ErrFormat, path, want, file.ModelSize)
	}
	return &Model{file}, nil
}

// checkMagic says what a file is that is no GGUF: a page of an error saved under the model's name is the usual case.
func checkMagic(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return &fs.PathError{Op: "read", Path: path, Err: errors.New("it is a folder, and one file is needed")}
	}
	start := make([]byte, 4)
	n, err := io.ReadFull(f, start)
	switch {
	case err == io.EOF:
		return fmt.Errorf("%w: %q is empty", ErrFormat, path)
	case err == io.ErrUnexpectedEOF:
		return fmt.Errorf("%w: %q has %d bytes", ErrFormat, path, n)
	case err != nil:
		return err
	case string(start) != "GGUF" && string(start) != "FUGG": // the other byte order
		return fmt.Errorf(`%w: %q begins with %q instead of "GGUF"`, ErrFormat, path, start)
	}
	return nil
}

// Architecture is what the model calls its kind, such as "llama".
func (m *Model) Architecture() string { return m.file.Architecture().Architecture }

// Size is the number of bytes of all its files.
func (m *Model) Size() uint64 { return uint64(m.file.Size) }
