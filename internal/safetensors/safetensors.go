// Package safetensors checks files of weights in the safetensors format without reading the weights, so that it takes
// milliseconds for files of any size: https://github.com/huggingface/safetensors#format.
//
// Whoever looks at a model before its start calls it. It allocates no more than the header that the file announces, within a limit.
package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"
)

// ErrFormat is wrapped by the errors of files that are there and are no whole safetensors file.
var ErrFormat = errors.New("not a usable safetensors file")

// maxHeader is the format's own limit.
const maxHeader = 100_000_000

// Check reads the header of the file at path and holds it against the file's size, as every reader of the format does:
// a download that was cut short is smaller. The error is an fs.PathError when the file cannot be read, and wraps
// ErrFormat when it can.
func Check(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would make it wait for a writer
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("is no regular file")}
	}
	if err != nil {
		return err
	}
	want, err := size(f, info.Size())
	var problem formatError
	switch {
	case errors.As(err, &problem):
		return fmt.Errorf("%w: %q %s", ErrFormat, path, string(problem))
	case err != nil:
		return err
	case want > info.Size():
		return fmt.Errorf("%w: %q is cut short: its header promises %d bytes, and there are %d", ErrFormat, path, want, info.Size())
	case want < info.Size():
		return fmt.Errorf("%w: %q has %d bytes, and its header promises %d", ErrFormat, path, info.Size(), want)
	}
	return nil
}

// formatError says what is wrong with a file.
type formatError string

func (e formatError) Error() string { return string(e) }

// size is the number of bytes that a file has by its header; there are no more than have bytes of it.
func size(r io.Reader, have int64) (int64, error) {
	var prefix [8]byte
	n, err := io.ReadFull(r, prefix[:])
	switch {
	case errors.Is(err, io.EOF):
		return 0, formatError("is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, formatError(fmt.Sprintf("has %d bytes", n))
	case err != nil:
		return 0, err
	case string(prefix[:]) == "version ":
		return 0, formatError(`is a pointer of Git LFS and not the file itself; run "git lfs pull"`)
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > maxHeader {
		return 0, formatError(fmt.Sprintf("begins with %q, which is no length of a header", prefix))
	}
	if int64(length) > have-8 {
		return 0, formatError(fmt.Sprintf("ends within its header: %d bytes of %d are there", have, 8+length))
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return 0, err
	}
	end, err := lastOffset(text)
	if err != nil {
		return 0, err
	}
	return 8 + int64(length) + end, nil
}

// lastOffset is where the data of the last tensor end.
func lastOffset(header []byte) (int64, error) {
	var entries map[string]struct {
		Offsets []uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(header, &entries); err != nil {
		return 0, formatError("has a header that is no JSON: " + err.Error())
	}
	var end uint64
	for name, entry := range entries {
		if strings.HasPrefix(name, "__") {
			continue // "__metadata__"
		}
		if len(entry.Offsets) != 2 || entry.Offsets[0] > entry.Offsets[1] || entry.Offsets[1] > math.MaxInt64-8-maxHeader {
			shown := entry.Offsets[:min(len(entry.Offsets), 3)] // there may be millions
			return 0, formatError(fmt.Sprintf("has no place for its tensor %.200q: data_offsets are %d", name, shown))
		}
		end = max(end, entry.Offsets[1])
	}
	return int64(end), nil
}
