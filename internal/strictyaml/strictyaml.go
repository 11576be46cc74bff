// Package strictyaml decodes one YAML or JSON document into a Go value and reports everything in it that does not
// fit, with its position and in words for people. Keys are matched by the json names of fields and by exact case.
//
// It exists since the decoders at hand stop at the first unknown key, name Go types in their errors, ignore case
// (encoding/json), or turn "off" and 010 into something else (YAML 1.1).
package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

const (
	maxDepth = 32
	// maxNodes bounds what aliases can expand to: the tree of a 1 MiB file without aliases that anyone would write by
	// hand is far smaller.
	maxNodes = 100_000
)

// Position is a place in a document; both numbers are 1-based.
type Position struct{ Line, Column int }

// Problem is something in a document that does not fit.
type Problem struct {
	Position
	Key     string // such as "pools[0].port"; "" when it is about the document as a whole
	Message string
	Unknown bool   // the key itself is unknown
	Meant   string // the key that an unknown key probably stands for; "" when none is near
	Strange bool   // the key itself is unknown, and nothing in Decode's target is like it
	Value   Scalar // that of a strange key, or in the place of a block or list, where it is a single one; it may be a secret
}

// Type tells how a type is read that is not written as its Go kind says.
type Type struct {
	// Want says what may be written, such as "text or a whole number".
	Want string
	// Quiet keeps what was written out of messages, since it may be a secret.
	Quiet bool
	// Scalar reads a single value; nil means that none is allowed. Its error says what is wrong, and what to write.
	Scalar func(Scalar) (any, error)
	// Block makes the pointer to a struct that a block of keys is read into; nil means that no block is allowed.
	Block func() any
	// FromBlock turns what Block made into a value of the type.
	FromBlock func(any) any
	// Item tells how the items of a list are read; nil means as their own type says.
	Item *Type
}

// Scalar is a single value as it was written.
type Scalar struct {
	Kind Kind
	Text string
}

// Kind is what a scalar looks like in the document.
type Kind int

// The kinds.
const (
	Text Kind = iota
	Number
	Bool
	Null
)

// ErrKind is returned by Type.Scalar for a scalar of a kind that the type does not take.
var ErrKind = errors.New("wrong kind of value")

// Decode reads data into the struct that out points to. What does not fit is left at its zero value and reported; the
// elements of a list keep their places. The positions of all values that were read come back by key.
func Decode(data []byte, out any, types map[reflect.Type]Type) (map[string]Position, []Problem) {
	d := &decoder{types: types, positions: map[string]Position{}}
	if root := d.parse(data); root != nil {
		d.value(root, reflect.ValueOf(out).Elem(), "")
	}
	return d.positions, d.problems
}

type decoder struct {
	types     map[reflect.Type]Type
	positions map[string]Position
	problems  []Problem
	nodes     int
}

func (d *decoder) report(n *yaml.Node, key, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if key == "" && (strings.HasPrefix(message, "is ") || strings.HasPrefix(message, "must ")) {
		message = "the file " + message
	}
	d.problems = append(d.problems, Problem{Position: position(n), Key: key, Message: message})
}

// value reads n into v. Its recursion is bounded by the depth of Go's types, so an alias to its own parent ends too.
func (d *decoder) value(n *yaml.Node, v reflect.Value, key string) { d.valueAs(n, v, key, nil) }

// valueAs is value by the rules of t; nil stands for those of v's type.
func (d *decoder) valueAs(n *yaml.Node, v reflect.Value, key string, t *Type) {
	if d.nodes++; d.nodes >= maxNodes {
		if d.nodes == maxNodes {
			d.report(n, "", "the file holds more than %d values, with its aliases expanded; make it smaller", maxNodes)
		}
		return
	}
	if _, ok := d.positions[key]; !ok {
		d.positions[key] = position(n)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.report(n, key, "the tag %s is not supported; remove it, and put text in quotes", keys.Quoted(n.Tag))
		return
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if isNull(n) {
		d.report(n, key, "has no value; write one, or remove it")
		return
	}
	if own, ok := d.types[v.Type()]; ok && t == nil {
		t = &own
	}
	if t != nil && (v.Kind() != reflect.Slice || n.Kind != yaml.SequenceNode) {
		d.special(n, v, key, *t)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.nodes--
		d.value(n, v.Elem(), key)
	case reflect.Struct:
		if d.want(n, key, yaml.MappingNode, wantBlock(v.Type(), n, key)) {
			d.block(n, v, key, false)
		}
	case reflect.Map:
		if d.want(n, key, yaml.MappingNode, "a block of keys, such as {NAME: …}") {
			d.entries(n, v, key)
		}
	case reflect.Slice:
		if d.want(n, key, yaml.SequenceNode, wantList(v.Type())) {
			v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
			var each *Type
			if t != nil {
				each = t.Item
			}
			for i, item := range n.Content {
				d.valueAs(item, v.Index(i), fmt.Sprintf("%s[%d]", key, i), each)
			}
		}
	default:
		d.scalar(n, v, key)
	}
}

// plainInt leaves out what YAML reads in surprising ways: 010 is 8 to some parsers, 1_000 a number to some.
var plainInt = lazyregexp.New(`^-?(0|[1-9][0-9]{0,17})$`)

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, key string) {
	s, ok := scalarOf(n)
	switch v.Kind() {
	case reflect.String:
		if ok && s.Kind == Text {
			v.SetString(s.Text)
			return
		}
		hint := ""
		if ok {
			hint = "; put it in quotes"
		}
		// What stands in a list may belong to a secret in the element before it.
		d.report(n, key, "must be text, is %s%s", describe(n, strings.HasSuffix(key, "]")), hint)
	case reflect.Bool:
		if ok && s.Kind == Bool {
			v.SetBool(strings.EqualFold(s.Text, "true"))
			return
		}
		d.report(n, key, "must be true or false, is %s", describe(n, false))
	case reflect.Int:
		switch {
		case ok && s.Kind == Number && plainInt.MatchString(s.Text):
			i, _ := strconv.ParseInt(s.Text, 10, 64)
			v.SetInt(i)
		case ok && s.Kind == Text && plainInt.MatchString(s.Text):
			d.report(n, key, "must be a number, is the text %s; remove the quotes", keys.Quoted(s.Text))
		default:
			d.report(n, key, "must be a whole number in plain digits, is %s", describe(n, false))
		}
	default:
		panic("strictyaml: no rule for " + v.Type().String())
	}
}

func (d *decoder) special(n *yaml.Node, v reflect.Value, key string, t Type) {
	s, isScalar := scalarOf(n)
	switch {
	case isScalar && t.Scalar != nil:
		value, err := t.Scalar(s)
		switch {
		case err == nil:
			v.Set(reflect.ValueOf(value).Convert(v.Type()))
		case errors.Is(err, ErrKind):
			hint := ""
			if s.Kind != Text && strings.HasPrefix(t.Want, "text") {
				hint = "; put it in quotes"
			}
			d.report(n, key, "must be %s, is %s%s", t.Want, describe(n, t.Quiet), hint)
		default:
			d.report(n, key, "%v", err)
		}
	case n.Kind == yaml.MappingNode && t.Block != nil:
		block := t.Block()
		d.block(n, reflect.ValueOf(block).Elem(), key, t.Quiet)
		v.Set(reflect.ValueOf(t.FromBlock(block)))
	default:
		d.report(n, key, "must be %s, is %s", t.Want, describe(n, t.Quiet))
	}
}

func (d *decoder) want(n *yaml.Node, key string, kind yaml.Kind, want string) bool {
	if n.Kind == kind {
		return true
	}
	d.report(n, key, "must be %s, is %s", want, describe(n, n.Kind == yaml.ScalarNode && kind == yaml.SequenceNode))
	d.problems[len(d.problems)-1].Value, _ = scalarOf(n)
	return false
}

// block reads a mapping into the fields of a struct.
func (d *decoder) block(n *yaml.Node, v reflect.Value, key string, quiet bool) {
	fields := fieldsOf(v.Type())
	names := namesOf(v.Type())
	d.pairs(n, key, func(k, value *yaml.Node, path string) {
		if i := slices.Index(names, k.Value); i >= 0 {
			if s, ok := scalarOf(value); ok && (s.Kind == Number || s.Kind == Bool) && len(fields[i].oneof) > 0 {
				d.report(value, path, "must be %s, is %s", Or(fields[i].oneof), describe(value, quiet))
				return
			}
			d.value(value, v.FieldByIndex(fields[i].index), path)
			return
		}
		d.unknown(k, value, key, v.Type(), quiet)
	})
}

// entries reads a mapping into a map with text keys.
func (d *decoder) entries(n *yaml.Node, v reflect.Value, key string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, key, func(k, value *yaml.Node, path string) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(value, item, path)
		v.SetMapIndex(reflect.ValueOf(k.Value), item)
	})
}

// pairs visits the keys of a mapping, each once.
func (d *decoder) pairs(n *yaml.Node, parent string, visit func(k, value *yaml.Node, path string)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		path := keys.Join(parent, k.Value)
		first, twice := seen[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode:
			d.report(k, parent, "a key here is %s; keys must be plain text", describe(k, true))
		case k.Tag == "!!merge":
			d.report(k, parent, "merge keys (<<) are not supported; write the keys out")
		case twice:
			d.report(k, path, "is set twice, first on line %d; remove one", first)
		default:
			seen[k.Value] = k.Line
			visit(k, value, path)
		}
	}
}

type field struct {
	name  string
	index []int
	oneof []string // the texts that validate's tag allows; the rule itself is checked there
}

// known is what fieldsOf has found, by type: a file has the same few types again and again.
var known sync.Map

// fieldsOf lists the fields of a struct and of those embedded in it by their json names. The list is not to be changed.
func fieldsOf(t reflect.Type) []field {
	if fields, ok := known.Load(t); ok {
		return fields.([]field)
	}
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && !f.Anonymous && name != "" && name != "-" {
			_, oneof, _ := strings.Cut(f.Tag.Get("validate"), "oneof=")
			fields = append(fields, field{name, f.Index, strings.Fields(oneof)})
		}
	}
	known.Store(t, fields)
	return fields
}

func namesOf(t reflect.Type) []string {
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
	}
	return names
}
