package strictyaml

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/llama-orch/engine-provisioner/internal/keys"
)

func position(n *yaml.Node) Position { return Position{n.Line, n.Column} }

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func scalarOf(n *yaml.Node) (Scalar, bool) {
	if n.Kind != yaml.ScalarNode {
		return Scalar{}, false
	}
	s := Scalar{Kind: Text, Text: n.Value}
	switch n.ShortTag() {
	case "!!int", "!!float":
		s.Kind = Number
	case "!!bool":
		s.Kind = Bool
	case "!!null":
		s.Kind = Null
	}
	return s, true
}

// describe says what a value is, with its content unless quiet.
func describe(n *yaml.Node, quiet bool) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a block of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	s, _ := scalarOf(n)
	switch {
	case s.Kind == Null:
		return "empty"
	case s.Kind == Number && quiet:
		return "a number"
	case s.Kind == Number:
		return "the number " + keys.Short(s.Text)
	case s.Kind == Bool && quiet:
		return "a truth value"
	case s.Kind == Bool:
		return s.Text
	case quiet:
		return "plain text"
	}
	return "the text " + keys.Quoted(s.Text)
}

// wantBlock says which block belongs in the place of n: that with n as its first key, where it is text that fits there.
func wantBlock(t reflect.Type, n *yaml.Node, key string) string {
	names := namesOf(t)
	if len(names) > 4 {
		return "a block of keys"
	}
	first := fieldsOf(t)[0]
	if s, ok := scalarOf(n); ok && s.Kind == Text && key != "" && len(first.oneof) == 0 && t.FieldByIndex(first.index).Type.Kind() == reflect.String {
		return fmt.Sprintf("a block such as {%s: %s}", names[0], keys.Quoted(s.Text))
	}
	return fmt.Sprintf("a block such as {%s: …}", strings.Join(names, ": …, "))
}

// wantList says how a list is written of what t holds.
func wantList(t reflect.Type) string {
	if t.Elem().Kind() == reflect.Struct {
		return `a list of blocks, each of which begins with "- "`
	}
	return "a list such as [a, b]"
}

// Or lists texts as alternatives.
func Or(texts []string) string {
	list := ""
	for i, t := range texts {
		switch {
		case i > 0 && i == len(texts)-1:
			list += " or "
		case i > 0:
			list += ", "
		}
		list += fmt.Sprintf("%q", t)
	}
	return list
}
