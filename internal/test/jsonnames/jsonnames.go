// Package jsonnames is for tests of what is kept on disk: it has its names from tags, so that no renamed field loses what an
// earlier version has written.
package jsonnames

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

var snake = lazyregexp.New(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// Check fails the test for each field of these types, and of the types of their fields, whose name in JSON is not from a
// tag. It returns the types that it has looked at.
func Check(t testing.TB, kept ...any) map[reflect.Type]bool {
	t.Helper()
	seen := map[reflect.Type]bool{}
	var look func(typ reflect.Type, at string)
	look = func(typ reflect.Type, at string) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		pointer := reflect.PointerTo(typ)
		own := pointer.Implements(reflect.TypeFor[json.Marshaler]()) || pointer.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]())
		if typ.Kind() != reflect.Struct || own || seen[typ] {
			return
		}
		seen[typ] = true
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case !f.IsExported() || name == "-":
				continue
			case !f.Anonymous && !snake.MatchString(name):
				t.Errorf("%s.%s has the name %q", at, f.Name, name)
			}
			look(f.Type, at+"."+f.Name)
		}
	}
	for _, k := range kept {
		look(reflect.TypeOf(k), reflect.TypeOf(k).Name())
	}
	return seen
}
