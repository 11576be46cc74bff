package provisioner

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// EnvValue is a value of an environment variable or of a header: plain text, or a reference to a secret. Its zero value
// is the empty text.
type EnvValue struct {
	Value  string     // the text; "" where Secret is set
	Secret *SecretRef // where the value comes from; nil for plain text
}

// SecretRef says where a secret is to be found; exactly one field is set. The secret itself is never written anywhere.
type SecretRef struct {
	// FromEnv names a variable in the provisioner's own environment.
	FromEnv string `json:"from_env,omitempty"`
	// FromFile is a file that holds the secret alone; a newline at its end is dropped. The path is relative to the
	// pools file's folder (in Go: to ProvisionConfig.Dir).
	FromFile string `json:"from_file,omitempty"`
}

// Duration is a [time.Duration] that is written as text with a unit, such as "90s" or "5m". In a file it is at most 24
// hours, and more than 0 unless the key says what 0 means.
type Duration time.Duration

// String returns the text form, such as "1m30s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the text form, "0s" included, so that every value that was written can be read; a bare number is
// an error.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var read *Duration
	if err := unmarshal(&read, data); err != nil {
		return err
	}
	*d = *read
	return nil
}

// UnmarshalJSON reads a list or one text.
func (f *Flags) UnmarshalJSON(data []byte) error { return unmarshal(f, data) }

// UnmarshalJSON reads an index, which may be a number, or a UUID.
func (d *Device) UnmarshalJSON(data []byte) error { return unmarshal(d, data) }

// MarshalJSON writes plain text, or the reference as an object.
func (v EnvValue) MarshalJSON() ([]byte, error) {
	if v.Secret != nil {
		return json.Marshal(v.Secret)
	}
	return json.Marshal(v.Value)
}

// UnmarshalJSON reads plain text, or an object with from_env or from_file.
func (v *EnvValue) UnmarshalJSON(data []byte) error { return unmarshal(v, data) }

// unmarshal reads a value of one of the types below by the rules of a pools file.
func unmarshal[T any](to *T, data []byte) error {
	var in struct {
		Value T `json:"value"`
	}
	_, problems := strictyaml.Decode([]byte(`{"value": `+string(data)+`}`), &in, valueTypes())
	if len(problems) > 0 {
		return errors.New(problems[0].Message)
	}
	*to = in.Value
	return nil
}

// Size is a number of bytes that is written as text with a unit, such as "64MiB", "1GiB" or "500MB". In a file it is
// from 64KiB to 1TiB.
type Size int64

// FileMode is the mode of a file in octal, such as "0640". In a file it may be written as a number: 0640, 640 and 0o640 are
// the same, and so is 416, which is what YAML 1.1 and Go make of 0640.
type FileMode string

// UnmarshalJSON reads the octal number.
func (m *FileMode) UnmarshalJSON(data []byte) error { return unmarshal(m, data) }

// Group is a group of users, by name or number.
type Group string

// UnmarshalJSON reads a name or a number.
func (g *Group) UnmarshalJSON(data []byte) error { return unmarshal(g, data) }

// fileModes are those that a handoff can have: nobody but its owner may write it.
var fileModes = []FileMode{"0600", "0640", "0644"}

var octalPrefix = regexp.MustCompile(`^0o?`)

func parseFileMode(s strictyaml.Scalar) (any, error) {
	if s.Kind != strictyaml.Text && s.Kind != strictyaml.Number {
		return nil, strictyaml.ErrKind
	}
	mode := FileMode("0" + octalPrefix.ReplaceAllString(s.Text, ""))
	if n, err := strconv.ParseUint(s.Text, 10, 32); err == nil && s.Kind == strictyaml.Number {
		if by := FileMode(fmt.Sprintf("%#o", n)); slices.Contains(fileModes, by) {
			mode = by
		}
	}
	if !slices.Contains(fileModes, mode) {
		return nil, errors.New(badFileMode(FileMode(s.Text)))
	}
	return mode, nil
}

func badFileMode(m FileMode) string {
	return fmt.Sprintf(`must be "0600", "0640" (its group may read it) or "0644" (every user may), is %q`, string(m))
}

func parseGroup(s strictyaml.Scalar) (any, error) {
	if s.Kind != strictyaml.Text && s.Kind != strictyaml.Number || !groupPattern.MatchString(s.Text) {
		return nil, strictyaml.ErrKind
	}
	return Group(s.Text), nil
}

// sizeUnits are the units of a size, the largest first, so that the first one that divides a size is the shortest.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1},
}

// String returns the text form, such as "64MiB", in a unit that loses nothing.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return "0B"
}

// MarshalJSON writes the text form.
func (s Size) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads the text form; a bare number is an error.
func (s *Size) UnmarshalJSON(data []byte) error { return unmarshal(s, data) }

// The bounds of a size. Errors quote from the last 64 KiB of a log.
const (
	minSize Size = 64 << 10
	maxSize Size = 1 << 40
)

func parseSize(s strictyaml.Scalar) (any, error) {
	switch s.Kind {
	case strictyaml.Text:
	case strictyaml.Number:
		return nil, fmt.Errorf(`is the number %s without a unit; write "%sMiB" for mebibytes`, s.Text, s.Text)
	default:
		return nil, strictyaml.ErrKind
	}
	match := sizePattern.FindStringSubmatch(s.Text)
	if match == nil {
		return nil, strictyaml.ErrKind
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	for _, unit := range sizeUnits {
		if unit.name != match[2] {
			continue
		}
		if err != nil || n > int64(maxSize)/unit.bytes {
			return nil, errors.New(sizeBounds(s.Text))
		}
		if wrong := checkSize(Size(n * unit.bytes)); wrong != "" {
			return nil, errors.New(wrong)
		}
		return Size(n * unit.bytes), nil
	}
	return nil, strictyaml.ErrKind
}

func checkSize(s Size) string {
	if s < minSize || s > maxSize {
		return sizeBounds(s.String())
	}
	return ""
}

func sizeBounds(is string) string {
	return fmt.Sprintf("must be from %s to %s, is %s; leave the key out for the default", minSize, maxSize, is)
}

// valueTypes are the types that are not written in a file as they stand in Go.
func valueTypes() map[reflect.Type]strictyaml.Type {
	const wantSecret = "{from_env: NAME} or {from_file: PATH}"
	return map[reflect.Type]strictyaml.Type{
		reflect.TypeFor[Duration](): {
			Want:   `text with a unit, such as "90s" or "5m"`,
			Scalar: parseDuration,
		},
		reflect.TypeFor[Size](): {
			Want:   `text with a unit, such as "64MiB" or "1GiB"`,
			Scalar: parseSize,
		},
		// The pointer tells 0 from a key that was left out.
		reflect.TypeFor[*Duration](): {
			Want:   `text with a unit, such as "90s" or "0s"`,
			Scalar: parseDurationOrZero,
		},
		reflect.TypeFor[Flags](): {
			Want:   `a list such as [--ctx-size, 4096], or one text such as "--ctx-size 4096"`,
			Quiet:  true,
			Scalar: splitFlags,
			Item: &strictyaml.Type{
				Want:   "text, a number, true or false",
				Quiet:  true,
				Scalar: func(s strictyaml.Scalar) (any, error) { return s.Text, nil },
			},
		},
		reflect.TypeFor[Devices](): {
			Want: `"auto" or a list of GPUs, such as [0, 1]`,
			Scalar: func(s strictyaml.Scalar) (any, error) {
				if s.Kind != strictyaml.Text || s.Text != string(autoDevice) {
					return nil, strictyaml.ErrKind
				}
				return DevicesAuto(), nil
			},
		},
		reflect.TypeFor[FileMode](): {
			Want:   `the mode of a file, such as "0640"`,
			Scalar: parseFileMode,
		},
		reflect.TypeFor[Group](): {
			Want:   `the name or number of a group of users, such as "llm"`,
			Scalar: parseGroup,
		},
		reflect.TypeFor[Device](): {
			Want:   `a GPU's index, such as 0, or its UUID, such as "GPU-…"`,
			Scalar: parseDevice,
		},
		reflect.TypeFor[EnvValue](): {
			Want:  "text or " + wantSecret,
			Quiet: true,
			Scalar: func(s strictyaml.Scalar) (any, error) {
				if s.Kind != strictyaml.Text {
					return nil, strictyaml.ErrKind
				}
				return EnvValue{Value: s.Text}, nil
			},
			Block:     func() any { return new(SecretRef) },
			FromBlock: func(b any) any { return EnvValue{Secret: b.(*SecretRef)} },
		},
		reflect.TypeFor[SecretRef](): {
			Want:      wantSecret + " (never the secret itself)",
			Quiet:     true,
			Block:     func() any { return new(SecretRef) },
			FromBlock: func(b any) any { return *b.(*SecretRef) },
		},
	}
}

func splitFlags(s strictyaml.Scalar) (any, error) {
	if s.Kind != strictyaml.Text {
		return nil, strictyaml.ErrKind
	}
	words, err := shellquote.Split(s.Text)
	if err != nil {
		return nil, fmt.Errorf("cannot be split as a shell would: %s; close the quotes, or write a list", lowerFirst(err.Error()))
	}
	return Flags(words), nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func parseDuration(s strictyaml.Scalar) (any, error) {
	switch s.Kind {
	case strictyaml.Text:
	case strictyaml.Number:
		return nil, fmt.Errorf(`is the number %s without a unit; write "%ss" for seconds`, s.Text, s.Text)
	default:
		return nil, strictyaml.ErrKind
	}
	d, err := time.ParseDuration(s.Text)
	if err != nil {
		return nil, strictyaml.ErrKind
	}
	if wrong := keys.BadDuration(d); wrong != "" {
		return nil, errors.New(wrong)
	}
	return Duration(d), nil
}

func parseDurationOrZero(s strictyaml.Scalar) (any, error) {
	if d, err := time.ParseDuration(s.Text); s.Kind == strictyaml.Text && err == nil && d == 0 {
		return new(Duration), nil
	}
	d, err := parseDuration(s)
	if err != nil {
		return nil, err
	}
	return new(d.(Duration)), nil
}

func parseDevice(s strictyaml.Scalar) (any, error) {
	if s.Kind != strictyaml.Text && s.Kind != strictyaml.Number || !devicePattern.MatchString(s.Text) && s.Text != string(autoDevice) {
		return nil, strictyaml.ErrKind
	}
	return Device(s.Text), nil
}

// wellFormed tells what is wrong with a reference, or "".
func (r SecretRef) wellFormed() string {
	switch {
	case r.FromEnv == "" && r.FromFile == "":
		return "says nowhere to find the secret; set from_env or from_file"
	case r.FromEnv != "" && r.FromFile != "":
		return "names two places for one secret; keep from_env or from_file"
	case r.FromEnv != "" && !keys.IsVariable(r.FromEnv):
		// The text is left out: it may be the secret itself.
		return "from_env must be the name of a variable (letters, digits and _), not its value"
	case strings.ContainsRune(r.FromFile, 0):
		return "from_file holds a NUL character; remove it"
	}
	return ""
}
