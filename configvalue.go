package provisioner

import (
	"encoding/json"
	"errors"
	"reflect"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/config"
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

// String returns the text form, such as "64MiB", in a unit that loses nothing.
func (s Size) String() string { return config.SizeText(int64(s)) }

// MarshalJSON writes the text form.
func (s Size) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads the text form; a bare number is an error.
func (s *Size) UnmarshalJSON(data []byte) error { return unmarshal(s, data) }

// text reads a scalar as one of the types that are text.
func text[T ~string](read func(strictyaml.Scalar) (string, error)) func(strictyaml.Scalar) (any, error) {
	return func(s strictyaml.Scalar) (any, error) {
		v, err := read(s)
		return T(v), err
	}
}

// number reads a scalar as one of the types that are numbers.
func number[T, From ~int64](read func(strictyaml.Scalar) (From, error)) func(strictyaml.Scalar) (any, error) {
	return func(s strictyaml.Scalar) (any, error) {
		v, err := read(s)
		return T(v), err
	}
}

// valueTypes are the types that are not written in a file as they stand in Go.
func valueTypes() map[reflect.Type]strictyaml.Type {
	const wantSecret = "{from_env: NAME} or {from_file: PATH}"
	return map[reflect.Type]strictyaml.Type{
		reflect.TypeFor[Duration](): {
			Want:   `text with a unit, such as "90s" or "5m"`,
			Scalar: number[Duration](config.Duration),
		},
		reflect.TypeFor[Size](): {
			Want:   `text with a unit, such as "64MiB" or "1GiB"`,
			Scalar: number[Size](config.Size),
		},
		// The pointer tells 0 from a key that was left out.
		reflect.TypeFor[*Duration](): {
			Want: `text with a unit, such as "90s" or "0s"`,
			Scalar: func(s strictyaml.Scalar) (any, error) {
				d, err := config.DurationOrZero(s)
				return new(Duration(d)), err
			},
		},
		reflect.TypeFor[Flags](): {
			Want:  `a list such as [--ctx-size, 4096], or one text such as "--ctx-size 4096"`,
			Quiet: true,
			Scalar: func(s strictyaml.Scalar) (any, error) {
				words, err := config.Flags(s)
				return Flags(words), err
			},
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
			Scalar: text[FileMode](config.FileMode),
		},
		reflect.TypeFor[Group](): {
			Want:   `the name or number of a group of users, such as "llm"`,
			Scalar: text[Group](config.Group),
		},
		reflect.TypeFor[Device](): {
			Want:   `a GPU's index, such as 0, its UUID, such as "GPU-…", or its PCI address`,
			Scalar: text[Device](config.Device),
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
