package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// unknown reports a key that a block of type t has not, with the one that was probably meant.
func (d *decoder) unknown(k, value *yaml.Node, parent string, t reflect.Type, quiet bool) {
	names := namesOf(t)
	p := Problem{Position: position(k), Key: keys.Join(parent, k.Value), Unknown: true}
	near := nearest.Of(k.Value, names)
	switch {
	case near != "":
		p.Message = fmt.Sprintf("unknown key %s; did you mean %q?", keys.Quoted(k.Value), near)
		p.Meant = keys.Join(parent, near)
	case blockWith(t, k.Value) != "":
		p.Message = fmt.Sprintf("unknown key %s; it belongs in the block %q", keys.Quoted(k.Value), blockWith(t, k.Value))
	case quiet:
		p.Key, p.Unknown = parent, false
		p.Message = fmt.Sprintf("unknown key; the keys here are %s", strings.Join(names, ", "))
	default:
		p.Message = fmt.Sprintf("unknown key %s; the keys here are %s", keys.Quoted(k.Value), strings.Join(names, ", "))
		p.Strange = true
		p.Value, _ = scalarOf(value)
	}
	d.problems = append(d.problems, p)
}

// blockWith is the block in t that has a key of this name, or "".
func blockWith(t reflect.Type, name string) string {
	for _, f := range fieldsOf(t) {
		in := t.FieldByIndex(f.index).Type
		if in.Kind() == reflect.Pointer {
			in = in.Elem()
		}
		if in.Kind() == reflect.Struct && slices.Contains(namesOf(in), name) {
			return f.name
		}
	}
	return ""
}
