package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// parse gives the tree of the one document, or reports why there is none.
func (d *decoder) parse(data []byte) *yaml.Node {
	start := &yaml.Node{Line: 1, Column: 1}
	if !utf8.Valid(data) {
		d.report(start, "", "is not UTF-8 text; save the file as UTF-8")
		return nil
	}
	root, err := jsonTree(data)
	if err == nil {
		return d.shape(root)
	}
	if looksLikeJSON.Match(data) {
		hint := ""
		if strings.HasPrefix(err.Error(), "invalid character '}' looking for beginning of object key") || strings.HasPrefix(err.Error(), "invalid character ']' looking for beginning of value") {
			hint = "; remove the comma before it"
		}
		d.report(root, "", "cannot read this as JSON: %v%s", err, hint)
		return nil
	}
	if openBrackets(data) > maxBrackets {
		d.report(start, "", "is nested deeper than %d levels", maxDepth)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		d.report(start, "", "is empty; it must hold a block of keys")
		return nil
	} else if err != nil {
		d.syntax(data, err)
		return nil
	}
	if err := dec.Decode(&second); err == nil {
		d.report(&second, "", "a second document begins here; keep one document in a file")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.syntax(data, err)
		return nil
	}
	return d.shape(doc.Content[0])
}

// maxBrackets leaves room for brackets in text and comments.
const maxBrackets = 4 * maxDepth

// openBrackets counts how many brackets are open at once, those in text and comments included. yaml's scanner takes
// time in proportion to that for every token: 1 MiB of "[" kept it busy for over 3 minutes.
func openBrackets(data []byte) int {
	open, most := 0, 0
	for _, b := range data {
		switch b {
		case '[', '{':
			open++
			most = max(most, open)
		case ']', '}':
			open = max(0, open-1)
		}
	}
	return most
}

// shape refuses a tree that is not worth reading.
func (d *decoder) shape(root *yaml.Node) *yaml.Node {
	if isNull(root) {
		d.report(root, "", "is empty; it must hold a block of keys")
		return nil
	}
	if deep := tooDeep(root, 1); deep != nil {
		d.report(deep, "", "is nested deeper than %d levels", maxDepth)
		return nil
	}
	return root
}

// looksLikeJSON leaves out a YAML flow mapping, whose keys hardly anyone quotes.
var looksLikeJSON = lazyregexp.New(`^\s*\{\s*"`)

var unknownAnchor = lazyregexp.New(`^unknown anchor '(.+)' referenced$`)

var syntaxError = lazyregexp.New(`^yaml: (?:line (\d+): )?((?s:.*))$`)

// syntaxHints complete the parser's words with the usual mistake behind them.
var syntaxHints = map[string]string{
	"mapping values are not allowed in this context":        `check the indentation, and quote text that holds ": "`,
	"found character that cannot start any token":           "quote text that begins with @, `, % or a tab, and indent with spaces",
	"found a tab character that violates indentation":       "indent with spaces",
	"found unknown escape character":                        `in double quotes \ begins an escape; put a text with \ into single quotes`,
	"did not find expected key":                             "check the indentation",
	"did not find expected '-' indicator":                   "check the indentation",
	"did not find expected ',' or ']'":                      "close the list with ]",
	"did not find expected ',' or '}'":                      "close the block with }",
	"found unexpected end of stream":                        "close the quotes",
	"did not find expected alphabetic or numeric character": "quote text that begins with * or &",
}

func (d *decoder) syntax(data []byte, err error) {
	at, message := &yaml.Node{}, err.Error()
	if m := syntaxError.FindStringSubmatch(message); m != nil {
		message = m[2]
		at.Line, _ = strconv.Atoi(m[1])
	}
	if strings.HasPrefix(message, "did not find expected") && !strings.Contains(message, "alphabetic") {
		at.Line++ // unlike its scanner, yaml's parser counts lines from 0
	}
	if m := unknownAnchor.FindStringSubmatch(message); m != nil {
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		at.Line = bytes.Count(before, []byte("\n")) + 1
		// The name is left out: it may be the beginning of a secret that was not quoted.
		message = "an alias refers to no anchor before it; quote text that begins with *"
	}
	if hint, ok := syntaxHints[message]; ok {
		message += "; " + hint
	}
	d.report(at, "", "cannot read this as YAML: %s", message)
}

func tooDeep(n *yaml.Node, depth int) *yaml.Node {
	if depth > maxDepth {
		return n
	}
	for _, child := range n.Content {
		if deep := tooDeep(child, depth+1); deep != nil {
			return deep
		}
	}
	return nil
}
