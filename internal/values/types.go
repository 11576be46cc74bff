package values

import (
	"errors"
	"reflect"

	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

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

// DurationType is how times are written.
func DurationType[T ~int64]() strictyaml.Type {
	return strictyaml.Type{Want: `text with a unit, such as "90s" or "5m"`, Scalar: number[T](Duration)}
}

// DurationOrZeroType is how times are written of which 0 has a meaning: the pointer tells 0 from a key that was left out.
func DurationOrZeroType[T ~int64]() strictyaml.Type {
	return strictyaml.Type{
		Want: `text with a unit, such as "90s" or "0s"`,
		Scalar: func(s strictyaml.Scalar) (any, error) {
			d, err := DurationOrZero(s)
			return new(T(d)), err
		},
	}
}

// SizeType is how numbers of bytes are written.
func SizeType[T ~int64]() strictyaml.Type {
	return strictyaml.Type{Want: `text with a unit, such as "64MiB" or "1GiB"`, Scalar: number[T](Size)}
}

// FlagsType is how command lines are written.
func FlagsType[T ~[]string]() strictyaml.Type {
	return strictyaml.Type{
		Want:  `a list such as [--ctx-size, 4096], or one text such as "--ctx-size 4096"`,
		Quiet: true,
		Scalar: func(s strictyaml.Scalar) (any, error) {
			words, err := Flags(s)
			return T(words), err
		},
		Item: &strictyaml.Type{
			Want:   "text, a number, true or false",
			Quiet:  true,
			Scalar: func(s strictyaml.Scalar) (any, error) { return s.Text, nil },
		},
	}
}

// DevicesType is how lists of GPUs are written.
func DevicesType[T ~[]E, E ~string]() strictyaml.Type {
	return strictyaml.Type{
		Want: `"auto" or a list of GPUs, such as [0, 1]`,
		Scalar: func(s strictyaml.Scalar) (any, error) {
			if s.Kind != strictyaml.Text || s.Text != AutoDevice {
				return nil, strictyaml.ErrKind
			}
			return T{AutoDevice}, nil
		},
	}
}

// DeviceType is how GPUs are written.
func DeviceType[T ~string]() strictyaml.Type {
	return strictyaml.Type{
		Want:   `a GPU's index, such as 0, its UUID, such as "GPU-…", or its PCI address`,
		Scalar: text[T](Device),
	}
}

// FileModeType is how modes of files are written.
func FileModeType[T ~string]() strictyaml.Type {
	return strictyaml.Type{Want: `the mode of a file, such as "0640"`, Scalar: text[T](FileMode)}
}

// GroupType is how groups are written.
func GroupType[T ~string]() strictyaml.Type {
	return strictyaml.Type{Want: `the name or number of a group of users, such as "llm"`, Scalar: text[T](Group)}
}

// ExposeType is how is written who may reach a replica.
func ExposeType[T ~string]() strictyaml.Type {
	return strictyaml.Type{Want: `true, false or "open"`, Scalar: text[T](Expose)}
}

const wantSecret = "{from_env: NAME} or {from_file: PATH}"

// SecretType is how references to secrets are written.
func SecretType[S any]() strictyaml.Type {
	return strictyaml.Type{
		Want:      wantSecret + " (never the secret itself)",
		Quiet:     true,
		Block:     func() any { return new(S) },
		FromBlock: func(b any) any { return *b.(*S) },
	}
}

// EnvType is how values are written that are plain text or references to secrets.
func EnvType[V, S any](plain func(string) V, secret func(*S) V) strictyaml.Type {
	return strictyaml.Type{
		Want:  "text or " + wantSecret,
		Quiet: true,
		Scalar: func(s strictyaml.Scalar) (any, error) {
			if s.Kind != strictyaml.Text {
				return nil, strictyaml.ErrKind
			}
			return plain(s.Text), nil
		},
		Block:     func() any { return new(S) },
		FromBlock: func(b any) any { return secret(b.(*S)) },
	}
}

// Unmarshal reads the JSON of a value by the rules of a pools file.
func Unmarshal[T any](to *T, data []byte, as strictyaml.Type) error {
	var in struct {
		Value T `json:"value"`
	}
	_, problems := strictyaml.Decode([]byte(`{"value": `+string(data)+`}`), &in, map[reflect.Type]strictyaml.Type{reflect.TypeFor[T](): as})
	if len(problems) > 0 {
		return errors.New(problems[0].Message)
	}
	*to = in.Value
	return nil
}
