// Package variables puts values in the place of $NAME and ${NAME}, as Docker Compose and systemd do. The package importer calls
// it. It knows no values itself, and reads none from its process.
package variables

import "strings"

// Expand puts the values of $NAME and ${NAME} into a text, as Docker Compose does; "$$" is one dollar. A default that
// stands there is taken where lookup knows none. What stays unknown is left as it is, and told.
func Expand(text string, lookup func(name string) (string, bool)) (expanded string, unknown []string) {
	return expandNested(text, lookup, 0)
}

// maxNested is how deep defaults can stand in defaults.
const maxNested = 16

func expandNested(text string, lookup func(string) (string, bool), depth int) (string, []string) {
	var b strings.Builder
	var unknown []string
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), unknown
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
			continue
		case strings.HasPrefix(rest, "{"):
			end := closing(rest)
			if end < 0 {
				b.WriteByte('$')
				text = rest
				continue
			}
			value, missing := braced(rest[1:end], lookup, depth)
			b.WriteString(value)
			unknown = append(unknown, missing...)
			text = rest[end+1:]
			continue
		}
		n := NameLength(rest)
		if n == 0 {
			b.WriteByte('$')
			text = rest
			continue
		}
		name := rest[:n]
		if value, ok := lookup(name); ok {
			b.WriteString(value)
		} else {
			b.WriteString("${" + name + "}")
			unknown = append(unknown, "${"+name+"}")
		}
		text = rest[n:]
	}
}

// braced is the value of what stands between braces.
func braced(inner string, lookup func(string) (string, bool), depth int) (string, []string) {
	n := NameLength(inner)
	name, operator := inner[:n], inner[n:]
	whole := "${" + inner + "}"
	value, set := "", false
	if n > 0 {
		value, set = lookup(name)
	}
	switch {
	case n == 0 || depth >= maxNested:
	case operator == "" && set:
		return value, nil
	case strings.HasPrefix(operator, ":-"):
		if set && value != "" {
			return value, nil
		}
		return expandNested(operator[2:], lookup, depth+1)
	case strings.HasPrefix(operator, "-"):
		if set {
			return value, nil
		}
		return expandNested(operator[1:], lookup, depth+1)
	case strings.HasPrefix(operator, ":?") || strings.HasPrefix(operator, "?"):
		if set && value != "" {
			return value, nil
		}
		whole = "${" + name + "}"
	case strings.HasPrefix(operator, ":+") || strings.HasPrefix(operator, "+"):
		if !set {
			return "", nil
		}
	}
	return whole, []string{whole}
}

// closing is where the brace that text begins with is closed; negative where it is not.
func closing(text string) int {
	open := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}

// NameLength is how much of the beginning of text is a variable's name.
func NameLength(text string) int {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}
