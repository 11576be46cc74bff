// Package values reads the values of a pools file that are more than plain text and numbers: times, sizes, command lines, modes
// of files, names of GPUs and groups. It knows how each is written, and not by which key.
//
// The types of a configuration call it, and the flags of the command that say the same. It looks at no file and at nothing of this machine.
package values

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// What texts in a file look like.
const (
	DevicePattern = `^((0|[1-9][0-9]{0,3})|(GPU|MIG)-[0-9A-Za-z][0-9A-Za-z/-]*|([0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]|` + listedDevice + `)$`
	// listedDevice is how llama-server names the devices of its backends.
	listedDevice = `(CUDA|ROCm|Vulkan|SYCL|MUSA|CANN|OPENVINO|HTP|MTL)[0-9]{1,3}|GPUOpenCL`
	// DurationPattern is narrower than what Go reads, which also takes signs and numbers that begin or end with their point.
	DurationPattern = `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`
	SizePattern     = `^([0-9]+)((?:[KMGT]i?)?B)$`
	GroupPattern    = `^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?$`
)

var (
	deviceText   = lazyregexp.New(DevicePattern)
	listedText   = lazyregexp.New(`^(` + listedDevice + `)$`)
	durationText = lazyregexp.New(DurationPattern)
	sizeText     = lazyregexp.New(SizePattern)
	groupText    = lazyregexp.New(GroupPattern)
)

// AutoDevice stands for the GPUs that a start chooses.
const AutoDevice = "auto"

// fileModes are those that a handoff can have: nobody but its owner may write it.
var fileModes = []string{"0600", "0640", "0644"}

// IsFileMode reports whether a handoff can have the mode m.
func IsFileMode(m string) bool { return slices.Contains(fileModes, m) }

// IsGroup reports whether name can be that of a group.
func IsGroup(name string) bool { return groupText.MatchString(name) }

// IsDevice reports whether name can be that of a GPU.
func IsDevice(name string) bool { return deviceText.MatchString(name) }

// IsListed reports whether name is one by which an engine's executable lists a GPU.
func IsListed(name string) bool { return listedText.MatchString(name) }

var octalPrefix = lazyregexp.New(`^0o?`)

// FileMode reads the mode of a file, in octal.
func FileMode(s strictyaml.Scalar) (string, error) {
	if s.Kind != strictyaml.Text && s.Kind != strictyaml.Number {
		return "", strictyaml.ErrKind
	}
	mode := "0" + octalPrefix.ReplaceAllString(s.Text, "")
	if n, err := strconv.ParseUint(s.Text, 10, 32); err == nil && s.Kind == strictyaml.Number {
		if by := fmt.Sprintf("%#o", n); slices.Contains(fileModes, by) {
			mode = by
		}
	}
	if !slices.Contains(fileModes, mode) {
		return "", errors.New(BadFileMode(s.Text))
	}
	return mode, nil
}

// BadFileMode says what is wrong with the mode m.
func BadFileMode(m string) string {
	return fmt.Sprintf(`must be "0600", "0640" (its group may read it) or "0644" (every user may), is %q`, m)
}

// Group reads the name or the number of a group.
func Group(s strictyaml.Scalar) (string, error) {
	if s.Kind != strictyaml.Text && s.Kind != strictyaml.Number || !groupText.MatchString(s.Text) ||
		s.Kind == strictyaml.Number && strings.Contains(s.Text, ".") {
		return "", strictyaml.ErrKind
	}
	return s.Text, nil
}

// Expose reads who may reach a replica: "true" with a key, "open" without, "" for nobody.
func Expose(s strictyaml.Scalar) (string, error) {
	switch {
	case s.Kind == strictyaml.Bool && s.Text == "false":
		return "", nil
	case s.Kind == strictyaml.Bool && s.Text == "true", s.Kind == strictyaml.Text && s.Text == "open":
		return s.Text, nil
	}
	return "", strictyaml.ErrKind
}

// Device reads the index or the UUID of a GPU.
func Device(s strictyaml.Scalar) (string, error) {
	if s.Kind != strictyaml.Text && s.Kind != strictyaml.Number || !deviceText.MatchString(s.Text) && s.Text != AutoDevice {
		return "", strictyaml.ErrKind
	}
	return s.Text, nil
}

// sizeUnits are the units of a size, the largest first, so that the first one that divides a size is the shortest.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1},
}

// SizeText is a size as a file has it, such as "64MiB", in a unit that loses nothing.
func SizeText(bytes int64) string {
	for _, unit := range sizeUnits {
		if bytes != 0 && bytes%unit.bytes == 0 {
			return strconv.FormatInt(bytes/unit.bytes, 10) + unit.name
		}
	}
	return "0B"
}

// The bounds of a size. Errors quote from the last 64 KiB of a log.
const (
	minSize int64 = 64 << 10
	maxSize int64 = 1 << 40
)

// Size reads a number of bytes.
func Size(s strictyaml.Scalar) (int64, error) {
	switch s.Kind {
	case strictyaml.Text:
	case strictyaml.Number:
		return 0, fmt.Errorf(`is the number %s without a unit; write "%sMiB" for mebibytes`, s.Text, s.Text)
	default:
		return 0, strictyaml.ErrKind
	}
	match := sizeText.FindStringSubmatch(s.Text)
	if match == nil {
		return 0, strictyaml.ErrKind
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	for _, unit := range sizeUnits {
		if unit.name != match[2] {
			continue
		}
		if err != nil || n > maxSize/unit.bytes {
			return 0, errors.New(sizeBounds(s.Text))
		}
		if wrong := BadSize(n * unit.bytes); wrong != "" {
			return 0, errors.New(wrong)
		}
		return n * unit.bytes, nil
	}
	return 0, strictyaml.ErrKind
}

// BadSize says what is wrong with a number of bytes; "" for nothing.
func BadSize(bytes int64) string {
	if bytes < minSize || bytes > maxSize {
		return sizeBounds(SizeText(bytes))
	}
	return ""
}

func sizeBounds(is string) string {
	return fmt.Sprintf("must be from %s to %s, is %s; leave the key out for the default", SizeText(minSize), SizeText(maxSize), is)
}

// Flags splits one text as a POSIX shell would, with no expansion.
func Flags(s strictyaml.Scalar) ([]string, error) {
	if s.Kind != strictyaml.Text {
		return nil, strictyaml.ErrKind
	}
	words, err := shellquote.Split(s.Text)
	if err != nil {
		return nil, fmt.Errorf("cannot be split as a shell would: %s; close the quotes, or write a list", lowerFirst(err.Error()))
	}
	return words, nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

var errDuration = errors.New(`write a number with the unit s, m or h, such as "30s" or "72h"`)

// ParseDuration reads a time by the one grammar that files, flags and the schema have: numbers with units, and 0. It is
// not negative.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || !durationText.MatchString(text) {
		return 0, errDuration
	}
	return d, nil
}

// Duration reads a time with its unit, which is more than 0.
func Duration(s strictyaml.Scalar) (time.Duration, error) {
	switch s.Kind {
	case strictyaml.Text:
	case strictyaml.Number:
		return 0, fmt.Errorf(`is the number %s without a unit; write "%ss" for seconds`, s.Text, s.Text)
	default:
		return 0, strictyaml.ErrKind
	}
	d, err := ParseDuration(s.Text)
	if err != nil {
		if d, err = time.ParseDuration(s.Text); err != nil || d > 0 {
			return 0, strictyaml.ErrKind
		}
	}
	if wrong := keys.BadDuration(d); wrong != "" {
		return 0, errors.New(wrong)
	}
	return d, nil
}

// DurationOrZero is Duration where 0 has a meaning.
func DurationOrZero(s strictyaml.Scalar) (time.Duration, error) {
	if d, err := ParseDuration(s.Text); s.Kind == strictyaml.Text && err == nil && d == 0 {
		return 0, nil
	}
	return Duration(s)
}
