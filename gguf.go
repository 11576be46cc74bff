package provisioner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"

	gguf "github.com/gpustack/gguf-parser-go"
)

// splitPattern is the name of a part of a model, such as "chat-00001-of-00003.gguf".
var splitPattern = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

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

// splitNames are the names of all parts of the model that name is a part of, or name alone.
func splitNames(name string) []string {
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

// checkGGUF refuses a file that llama.cpp would refuse for what stands in its header: 3 ms, where the engine takes
// seconds. A model in parts is checked as one.
func checkGGUF(path string) error {
	_, part, of := splitName(path)
	wrong := func(format string, args ...any) error {
		return &modelError{CauseModelCorrupt, fmt.Errorf("%q "+format, append([]any{path}, args...)...)}
	}
	if of > 0 && part != 1 {
		return wrong("is part %d of a model in %d; name the first in \"model.id\"", part, of)
	}
	for i, name := range splitNames(path) {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return &modelError{CauseModelMissing, fmt.Errorf("part %d of %d is missing: %q; put all parts into one folder", i+1, of, name)}
		}
	}
	f, err := readGGUF(path)
	if errors.Is(err, errNewGGUF) {
		return nil
	}
	if err != nil {
		return err
	}
	if count, ok := f.Header.MetadataKV.Get("split.count"); ok && count.ValueType.IsNumeric() {
		if n := gguf.ValueNumeric[int](count); n > 1 && n != max(of, 1) {
			return wrong("says that its model has %d parts, but its name says %d; give the parts their old names", n, max(of, 1))
		}
	}
	var held int64
	for i, size := range f.SplitSizes {
		held += max(0, int64(size)-f.SplitTensorDataStartOffsets[i])
	}
	if need := int64(f.TensorInfos.Bytes()); need > held {
		return wrong("is cut short: its tensors take %d bytes, and %d are there; fetch it again", need, held)
	}
	return nil
}

// errNewGGUF says that the file uses what the parser does not know, and a new engine may.
var errNewGGUF = errors.New("the model is of a kind that is not known here")

// readGGUF reads the header of a model, of all its parts. It returns errNewGGUF for what it cannot judge.
func readGGUF(path string) (_ *gguf.GGUFFile, err error) {
	// The parser ends in a panic where a file lies, and a mapped file that is cut short meanwhile in a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = unreadable(path, fmt.Sprint(cause))
		}
	}()
	if magic := magicOf(path); magic != "GGUF" {
		return nil, unreadable(path, fmt.Sprintf("it begins with %q and not with the magic \"GGUF\"", magic))
	}
	f, err := gguf.ParseGGUFFile(path, gguf.SkipLargeMetadata(), gguf.UseMMap())
	if err != nil {
		return nil, unreadable(path, err.Error())
	}
	return f, nil
}

func unreadable(path, cause string) error {
	if strings.Contains(cause, "unsupported") || strings.Contains(cause, "GGMLType(") {
		return errNewGGUF
	}
	// It blames the layout of a type, where a download that was cut off is the usual reason.
	if short, _, ok := strings.Cut(cause, ": a tensor type's block layout"); ok {
		cause = "it is cut short: " + short
	}
	return &modelError{CauseModelCorrupt, fmt.Errorf("%q is no sound GGUF file: %s; fetch it again", path, cause)}
}

func magicOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	var magic [4]byte
	n, _ := f.Read(magic[:])
	return string(magic[:n])
}
