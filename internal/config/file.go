package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/llama-orch/engine-provisioner/internal/access"
	"github.com/llama-orch/engine-provisioner/internal/foreign"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
	"github.com/llama-orch/engine-provisioner/internal/values"
	"github.com/llama-orch/engine-provisioner/settings"
)

// maxFile is far above any real pools file; it keeps a wrong path, such as that of a model, from being read whole.
const maxFile = 1 << 20

// ReadFile returns what a pools file holds, or a little more than one may hold.
func ReadFile(path string) ([]byte, error) {
	// Looked at before it is opened, since opening a named pipe waits for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, unread(err)
	}
	if info.IsDir() {
		return nil, unread(errors.New("it is a folder; name the file in it"))
	}
	if !info.Mode().IsRegular() {
		return nil, unread(errors.New("not a regular file; give the path of a YAML or JSON file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unread(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unread(err)
	}
	return data, nil
}

// unread says why a file was not read. The path is left out, which the error of a configuration names already.
func unread(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		if denied := access.Denied(p.Path, "read"); denied != "" {
			return fmt.Errorf("cannot read the configuration: %w: %s; %s", p.Err, denied, access.Remedy)
		}
		err = p.Err
	}
	return fmt.Errorf("cannot read the configuration: %w", err)
}

// OriginOf is the origin of a file; "" means that there is none, and the working directory is its folder.
func OriginOf(file string) (*Origin, error) {
	o := &Origin{File: file}
	if file != "" {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, fmt.Errorf("cannot find the folder of %q: %w", file, err)
		}
		o.Dir = filepath.Dir(abs)
	}
	return o, nil
}

// types are those of the settings that are not written as they stand in Go.
func types() map[reflect.Type]strictyaml.Type {
	return map[reflect.Type]strictyaml.Type{
		reflect.TypeFor[settings.Duration]():  values.DurationType[settings.Duration](),
		reflect.TypeFor[*settings.Duration](): values.DurationOrZeroType[settings.Duration](),
		reflect.TypeFor[settings.Size]():      values.SizeType[settings.Size](),
		reflect.TypeFor[settings.Flags]():     values.FlagsType[settings.Flags](),
		reflect.TypeFor[settings.Devices]():   values.DevicesType[settings.Devices](),
		reflect.TypeFor[settings.Device]():    values.DeviceType[settings.Device](),
		reflect.TypeFor[settings.FileMode]():  values.FileModeType[settings.FileMode](),
		reflect.TypeFor[settings.Expose]():    values.ExposeType[settings.Expose](),
		reflect.TypeFor[settings.Group]():     values.GroupType[settings.Group](),
		reflect.TypeFor[settings.EnvValue](): values.EnvType(
			func(text string) settings.EnvValue { return settings.EnvValue{Value: text} },
			func(ref *settings.SecretRef) settings.EnvValue { return settings.EnvValue{Secret: ref} },
		),
		reflect.TypeFor[settings.SecretRef](): values.SecretType[settings.SecretRef](),
	}
}

// Decode reads data into a value. It reports whether data can be a pools file, and remembers in the origin where each key
// stands.
func (k *Checker) Decode(data []byte, into any) bool {
	if bytes.HasPrefix(data, []byte("GGUF")) {
		k.Report("", "the file is a model, not a pools file; run it: engine-provisioner run %q", cmp.Or(k.origin.File, "FILE"))
		return false
	}
	if len(data) > maxFile {
		k.Report("", "the file is larger than 1 MiB; is it a pools file?")
		return false
	}
	positions, problems := strictyaml.Decode(data, into, types())
	k.origin.Positions = positions
	for _, p := range problems {
		k.problems = append(k.problems, Problem{Line: p.Line, Column: p.Column, Key: p.Key, Message: cmp.Or(elsewhere(p), alone(p), p.Message)})
		if !p.Unknown {
			k.skip[p.Key] = true
		}
		if p.Meant != "" {
			k.skip[p.Meant] = true
		}
	}
	return true
}

// Foreign is what is to be told instead of all problems: that the file is another tool's; "" where it is not.
func Foreign(data []byte, file string) string {
	kind := foreign.Of(data, file)
	if !kind.Importable() {
		return ""
	}
	return fmt.Sprintf("this is %s, not a pools file; make one of it: engine-provisioner import %q", kind.Article(), cmp.Or(file, "FILE"))
}
