package strictyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// jsonTree reads a JSON document into the tree that YAML gives. YAML contains nearly all of JSON, but its parser
// refuses surrogate pairs ("\ud83d\ude00"), some characters that JSON leaves as they are, and keys of over 1024 bytes.
// With an error comes a node that says where.
func jsonTree(data []byte) (*yaml.Node, error) {
	r := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.dec.UseNumber()
	root, err := r.value(1)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	if err != nil {
		return root, err
	}
	if _, at, err := r.token(); !errors.Is(err, io.EOF) {
		return at, errors.New("something stands after its end")
	}
	return root, nil
}

type jsonReader struct {
	data []byte
	dec  *json.Decoder
	seen int // bytes before the place that line and col belong to
	line int
	col  int // characters of the line before that place
}

// token gives the next token with the place where it begins.
func (r *jsonReader) token() (json.Token, *yaml.Node, error) {
	begin := int(r.dec.InputOffset())
	for begin < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[begin]) >= 0 {
		begin++
	}
	for ; r.seen < begin; r.seen++ {
		switch {
		case r.data[r.seen] == '\n':
			r.line++
			r.col = 0
		case utf8.RuneStart(r.data[r.seen]):
			r.col++
		}
	}
	n := &yaml.Node{Line: r.line, Column: r.col + 1}
	t, err := r.dec.Token()
	return t, n, err
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	t, n, err := r.token()
	if err != nil {
		return n, err
	}
	n.Kind = yaml.ScalarNode
	switch t := t.(type) {
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!float", t.String()
	case bool:
		n.Tag, n.Value = "!!bool", "false"
		if t {
			n.Value = "true"
		}
	case nil:
		n.Tag, n.Value = "!!null", "null"
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		if depth > maxDepth {
			return n, r.rest()
		}
		for r.dec.More() {
			child, err := r.value(depth + 1)
			if err != nil {
				return child, err
			}
			n.Content = append(n.Content, child)
		}
		if _, at, err := r.token(); err != nil {
			return at, err
		}
	}
	return n, nil
}

// rest skips what is nested too deep; the caller reports the block that holds it.
func (r *jsonReader) rest() error {
	for depth := 1; depth > 0; {
		t, _, err := r.token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}
