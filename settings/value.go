package settings

import (
	"encoding/json"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/values"
)

// Flags are elements of a command line. In a file they are a list, in which numbers, true and false stand for their text,
// or one text that is split as a POSIX shell would, with no expansion: "-c 4096 -ngl 99".
type Flags []string

// Device is a GPU by index ("0"), UUID ("GPU-…", "MIG-…"), PCI address ("0000:3b:00.0") or the engine's name ("Vulkan0"). In a file an index may be written as a number.
type Device string

// Devices is a list of GPUs, or [DevicesAuto]. In a file, "auto" need not be in a list.
type Devices []Device

// DevicesAuto returns "devices: auto": as few GPUs as have enough free memory for the model, by estimate. Replicas of the
// same state directory that are still loading count. An engine whose need cannot be told gets the GPU with the most free
// memory, or as many as its flags ask for.
func DevicesAuto() Devices { return Devices{values.AutoDevice} }

// Auto reports whether a start chooses.
func (d Devices) Auto() bool { return len(d) == 1 && d[0] == values.AutoDevice }

// Expose says who may reach a replica from other machines. In a file it is true, false or "open". Its zero value is nobody.
type Expose string

// The values of Expose but nobody's.
const (
	ExposeKeyed Expose = "true" // who has the "api_key"
	ExposeOpen  Expose = "open" // everybody
)

// MarshalJSON writes true, false or "open".
func (e Expose) MarshalJSON() ([]byte, error) {
	if e == ExposeOpen {
		return json.Marshal(string(e))
	}
	return json.Marshal(e == ExposeKeyed)
}

// UnmarshalJSON reads true, false or "open".
func (e *Expose) UnmarshalJSON(data []byte) error {
	return values.Unmarshal(e, data, values.ExposeType[Expose]())
}

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
	if err := values.Unmarshal(&read, data, values.DurationOrZeroType[Duration]()); err != nil {
		return err
	}
	*d = *read
	return nil
}

// UnmarshalJSON reads a list or one text.
func (f *Flags) UnmarshalJSON(data []byte) error {
	return values.Unmarshal(f, data, values.FlagsType[Flags]())
}

// UnmarshalJSON reads an index, which may be a number, or a UUID.
func (d *Device) UnmarshalJSON(data []byte) error {
	return values.Unmarshal(d, data, values.DeviceType[Device]())
}

// MarshalJSON writes plain text, or the reference as an object.
func (v EnvValue) MarshalJSON() ([]byte, error) {
	if v.Secret != nil {
		return json.Marshal(v.Secret)
	}
	return json.Marshal(v.Value)
}

// UnmarshalJSON reads plain text, or an object with from_env or from_file.
func (v *EnvValue) UnmarshalJSON(data []byte) error {
	return values.Unmarshal(v, data, values.EnvType(
		func(text string) EnvValue { return EnvValue{Value: text} },
		func(ref *SecretRef) EnvValue { return EnvValue{Secret: ref} },
	))
}

// Size is a number of bytes that is written as text with a unit, such as "64MiB", "1GiB" or "500MB". In a file it is
// from 64KiB to 1TiB.
type Size int64

// FileMode is the mode of a file in octal, such as "0640". In a file it may be written as a number: 0640, 640 and 0o640 are
// the same, and so is 416, which is what YAML 1.1 and Go make of 0640.
type FileMode string

// UnmarshalJSON reads the octal number.
func (m *FileMode) UnmarshalJSON(data []byte) error {
	return values.Unmarshal(m, data, values.FileModeType[FileMode]())
}

// Group is a group of users, by name or number.
type Group string

// UnmarshalJSON reads a name or a number.
func (g *Group) UnmarshalJSON(data []byte) error {
	return values.Unmarshal(g, data, values.GroupType[Group]())
}

// String returns the text form, such as "64MiB", in a unit that loses nothing.
func (s Size) String() string { return values.SizeText(int64(s)) }

// MarshalJSON writes the text form.
func (s Size) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads the text form; a bare number is an error.
func (s *Size) UnmarshalJSON(data []byte) error {
	return values.Unmarshal(s, data, values.SizeType[Size]())
}
