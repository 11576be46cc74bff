package strictyaml

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// Join gives the path of a key inside the value at parent.
func Join(parent, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return parent + "[" + quoted(key) + "]"
	case parent == "":
		return key
	}
	return parent + "." + key
}

// Nearest gives the word of known that word is probably a misspelling of, or "".
func Nearest(word string, known []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	if len(word) > 64 {
		return ""
	}
	for _, k := range known {
		if strings.EqualFold(word, k) {
			return k
		}
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < bestDistance && d < len(k) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours between two words.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(replace, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

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
		return "the number " + short(s.Text)
	case s.Kind == Bool && quiet:
		return "a truth value"
	case s.Kind == Bool:
		return s.Text
	case quiet:
		return "plain text"
	}
	return "the text " + quoted(s.Text)
}

func wantBlock(t reflect.Type) string {
	names := namesOf(t)
	if len(names) > 4 {
		return "a block of keys"
	}
	return fmt.Sprintf("a block such as {%s: …}", strings.Join(names, ": …, "))
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

func quoted(s string) string { return fmt.Sprintf("%q", short(s)) }

// short keeps a message readable when a value is a whole page.
func short(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
