// Package exposition reads pages in the text format of Prometheus, version 0.0.4, for package probe. It asks nobody for a page,
// keeps none, and knows no engine. Every page takes time in proportion to its length.
//
// It takes what Prometheus' own reader takes (package expfmt of prometheus/common, against which a module of its own holds
// it), which would bring the machinery of protocol buffers: 33 packages for the sums of some lines.
package exposition

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Sums are the series of a page by their names, each with its sum over all labels (0 for histograms and summaries, whose
// parts are not told apart). What is announced by HELP or TYPE alone, without a sample, is no series. A page that does not end
// with a line's end is an error: half a page, it may be.
func Sums(page []byte) (map[string]float64, error) {
	r := reader{kinds: map[string]kind{}, sums: map[string]float64{}}
	number := 0
	for line := range strings.Lines(string(page)) {
		number++
		if err := r.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if len(r.sums) == 0 {
		return nil, errors.New("no series on the page")
	}
	return r.sums, nil
}

// kind is what a name stands for.
type kind int

const (
	plain     kind = iota // one sample a series: counter, gauge, untyped
	histogram             // with buckets, a sum and a count
	summary               // with quantiles, a sum and a count
)

// kindNames are those of TYPE lines. The last two are no part of the format, and Prometheus' reader takes them.
var kindNames = map[string]kind{
	"counter": plain, "gauge": plain, "untyped": plain, "histogram": histogram, "summary": summary,
	"gauge_histogram": histogram, "gaugehistogram": histogram,
}

type reader struct {
	kinds map[string]kind // of the names that a TYPE line or a sample has told of
	sums  map[string]float64
}

func (r *reader) line(text string) error {
	text, whole := strings.CutSuffix(text, "\n")
	c := cursor{text}
	c.blanks()
	switch {
	case c.rest == "":
		return nil
	case !whole:
		return errors.New("unexpected end of the page")
	case c.rest[0] == '#':
		return r.comment(c.rest[1:])
	}
	return r.sample(c)
}

// comment looks at "TYPE name kind". The text of a HELP is for people.
func (r *reader) comment(text string) error {
	words := strings.Fields(text)
	if len(words) < 3 || words[0] != "TYPE" {
		return nil
	}
	c := cursor{strings.TrimLeft(text, " \t")[len("TYPE"):]}
	c.blanks()
	name, err := c.name(":")
	if err != nil {
		return err
	}
	k, known := kindNames[strings.ToLower(strings.TrimSpace(c.rest))]
	if !known {
		return fmt.Errorf("unknown type %q of %q", strings.TrimSpace(c.rest), name)
	}
	if _, twice := r.kinds[name]; twice {
		return fmt.Errorf("a second type of %q, or one after its samples", name)
	}
	r.kinds[name] = k
	return nil
}

// sample reads "name{labels} value time", of which labels and time can be missing. A name in quotes stands among the labels.
func (r *reader) sample(c cursor) error {
	var name string
	var err error
	if c.rest[0] != '{' {
		if name, err = c.name(":"); err != nil {
			return err
		}
		if !c.blanks() && c.rest != "" && c.rest[0] != '{' {
			return fmt.Errorf("unexpected %.20q after the name %q", c.rest, name)
		}
	}
	if c.take('{') {
		if name, err = c.labels(name); err != nil {
			return err
		}
		c.blanks()
	}
	text, moment := c.word(), c.word()
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.ContainsAny(text, "pP_") { // Go's own ways to write one
		return fmt.Errorf("%q is no number, which the value of %q must be", text, name)
	}
	if moment != "" {
		if _, err := strconv.ParseInt(moment, 10, 64); err != nil {
			return fmt.Errorf("%q is no time in milliseconds, which comes after the value of %q", moment, name)
		}
	}
	if c.rest != "" {
		return fmt.Errorf("unexpected %q after the sample of %q", c.rest, name)
	}
	name, k := r.family(name)
	if k != plain {
		value = 0
	}
	r.sums[name] += value
	return nil
}

// family is what a sample belongs to: those of a histogram and a summary have names of their own.
func (r *reader) family(name string) (string, kind) {
	if k, known := r.kinds[name]; known {
		return name, k
	}
	for _, part := range []string{"_count", "_sum", "_bucket"} {
		of, cut := strings.CutSuffix(name, part)
		if k := r.kinds[of]; cut && (k == histogram || k == summary && part != "_bucket") {
			return of, k
		}
	}
	r.kinds[name] = plain // a TYPE would be too late now
	return name, plain
}

// cursor is what is left of a line.
type cursor struct{ rest string }

// blanks skips them, and reports whether there were any.
func (c *cursor) blanks() bool {
	before := len(c.rest)
	c.rest = strings.TrimLeft(c.rest, " \t")
	return len(c.rest) < before
}

func (c *cursor) take(b byte) bool {
	if c.rest == "" || c.rest[0] != b {
		return false
	}
	c.rest = c.rest[1:]
	return true
}

// word is what stands before the next blanks, which are skipped.
func (c *cursor) word() string {
	end := strings.IndexAny(c.rest, " \t")
	if end < 0 {
		end = len(c.rest)
	}
	word := c.rest[:end]
	c.rest = c.rest[end:]
	c.blanks()
	return word
}

// name is that of a series or a label, of letters, digits, underscores and those in more; or anything in quotes.
func (c *cursor) name(more string) (string, error) {
	if c.take('"') {
		name, err := c.quoted()
		if err == nil && name == "" {
			err = errors.New("an empty name")
		}
		return name, err
	}
	end := 0
	for end < len(c.rest) {
		b := c.rest[end]
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_' || strings.IndexByte(more, b) >= 0
		if !letter && (b < '0' || b > '9' || end == 0) {
			break
		}
		end++
	}
	if end == 0 {
		return "", fmt.Errorf("%.20q begins no name", c.rest)
	}
	name := c.rest[:end]
	c.rest = c.rest[end:]
	return name, nil
}

// quoted is the text up to the closing quote; the opening one is taken already.
func (c *cursor) quoted() (string, error) {
	var unescaped strings.Builder // so far; most have nothing to escape
	for {
		i := strings.IndexAny(c.rest, `"\`)
		if i < 0 || c.rest[i] == '\\' && i+1 == len(c.rest) {
			return "", errors.New("a quote without its end")
		}
		if c.rest[i] == '"' {
			text := unescaped.String() + c.rest[:i]
			c.rest = c.rest[i+1:]
			if !utf8.ValidString(text) {
				return "", errors.New("a text that is no UTF-8")
			}
			return text, nil
		}
		unescaped.WriteString(c.rest[:i])
		switch escaped := c.rest[i+1]; escaped {
		case '"', '\\':
			unescaped.WriteByte(escaped)
		case 'n':
			unescaped.WriteByte('\n')
		default:
			return "", fmt.Errorf(`"\%c" in quotes means nothing`, escaped)
		}
		c.rest = c.rest[i+2:]
	}
}

// labels reads up to the closing brace, and returns the name of the series: the one that stood before, or the one within.
func (c *cursor) labels(name string) (string, error) {
	seen := map[string]bool{}
	for {
		c.blanks()
		if c.take('}') {
			break
		}
		label, err := c.name("")
		if err != nil {
			return "", err
		}
		c.blanks()
		switch {
		case c.take('='):
			if seen[label] || label == "__name__" {
				return "", fmt.Errorf("the label %q stands there twice, or is not for pages", label)
			}
			seen[label] = true
			if c.blanks(); !c.take('"') {
				return "", fmt.Errorf("the value of the label %q does not begin with a quote", label)
			}
			if _, err := c.quoted(); err != nil {
				return "", err
			}
		case name == "":
			name = label
		default:
			return "", fmt.Errorf("no \"=\" after the label %q", label)
		}
		if c.blanks(); !c.take(',') && !strings.HasPrefix(c.rest, "}") {
			return "", fmt.Errorf("no comma after the label %q", label)
		}
	}
	if name == "" {
		return "", errors.New("labels without a name")
	}
	return name, nil
}
