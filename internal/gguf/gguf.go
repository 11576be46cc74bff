// Package gguf reads the headers of GGUF models and estimates the memory that llama.cpp needs to run them. It reads no
// weights, so it takes milliseconds for models of any size.
package gguf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"

	parser "github.com/gpustack/gguf-parser-go"
)

var (
	// ErrFormat is wrapped by the errors of files that are there and are no whole GGUF.
	ErrFormat = errors.New("not a valid GGUF file")
	// ErrUnknown is wrapped by the errors of files that use what this package does not know, and a new engine may.
	ErrUnknown = errors.New("a GGUF file of a kind that is not known here")
)

// Model is the header of a model, of all its parts when it is split. It is not changed after Open, and safe for
// concurrent use.
type Model struct{ file *parser.GGUFFile }

// Open reads the header of the model at path. For a split model, "…-00001-of-0000N.gguf", path is any of its parts, and
// all must be there. The error wraps that of package os when a file cannot be read, ErrFormat when it is no GGUF or ends
// too soon, and ErrUnknown when that cannot be judged.
func Open(path string) (_ *Model, err error) {
	if magic := magicOf(path); magic != "GGUF" && magic != "" {
		return nil, fmt.Errorf(`%w: it begins with %q instead of "GGUF"`, ErrFormat, magic)
	}
	// The parser panics on some metadata of a wrong type, and the file is mapped, which is 17 times as fast as reading it:
	// without this, a file that is cut while it is read would end the program.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrFormat, p)
		}
	}()
	file, err := parser.ParseGGUFFile(path, parser.SkipLargeMetadata(), parser.UseMMap())
	if err != nil {
		return nil, problem(err)
	}
	var held int64
	for i, size := range file.SplitSizes {
		held += max(0, int64(size)-file.SplitTensorDataStartOffsets[i])
	}
	if need := int64(file.TensorInfos.Bytes()); need > held {
		return nil, fmt.Errorf("%w: it is truncated: its weights need %d bytes, and there are %d", ErrFormat, need, held)
	}
	return &Model{file}, nil
}

func problem(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	text := err.Error()
	if strings.Contains(text, "unsupported") || strings.Contains(text, "GGMLType(") {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within its header", ErrFormat)
	}
	// It blames the layout of a type, where a download that was cut off is the usual reason.
	if short, _, ok := strings.Cut(text, ": a tensor type's block layout"); ok {
		return fmt.Errorf("%w: it is truncated: %s", ErrFormat, short)
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

func magicOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	var magic [4]byte
	n, _ := io.ReadFull(f, magic[:])
	return string(magic[:n])
}

// Parts is how many parts the model says that it has; 0 when it says nothing of it.
func (m *Model) Parts() int {
	count, ok := m.file.Header.MetadataKV.Get("split.count")
	if !ok || !count.ValueType.IsNumeric() {
		return 0
	}
	return parser.ValueNumeric[int](count)
}

// Architecture is what the model calls its kind, such as "llama".
func (m *Model) Architecture() string { return m.file.Architecture().Architecture }

// Size is the number of bytes of all its files.
func (m *Model) Size() uint64 { return uint64(m.file.Size) }
