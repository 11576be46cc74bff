package flagline

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

var (
	leadingNumber = regexp.MustCompile(`^\s*[-+]?\.?[0-9]`)
	choices       = regexp.MustCompile(`^\{([^{}]+)\}$`)
)

// values checks the values of a flag and translates those that mean different things on different builds.
func (m *Line) values(name, word string, def engine.FlagDef, f Word, values []string) ([]string, string, error) {
	if m.Bridged[name] != "" {
		return m.Bridge(m, word, def, values)
	}
	want, least := valueCount(def), valueCount(def)
	if def.Optional {
		least = 0
	}
	switch {
	case len(values) < least && want == 1:
		return nil, "", fmt.Errorf("%q needs a value (%s); write it as the next element", word, placeholder(def))
	case len(values) < least:
		return nil, "", fmt.Errorf("%q needs %d values (%s); write each as an element of its own", word, want, placeholder(def))
	case len(values) > want && !def.Many:
		return nil, "", fmt.Errorf("%q takes no value on this %s; write it alone", word, m.Program)
	}
	for _, v := range values {
		switch {
		case f.Joined || !flagShape.MatchString(v):
		case m.Has(v):
			return nil, "", fmt.Errorf("%q needs a value (%s), but the flag %q follows; if that is the value, write %q",
				word, placeholder(def), v, word+"="+v)
		case m.Joined:
			return nil, "", fmt.Errorf(`%q needs a value (%s); one that begins with "-" is written %q`, word, placeholder(def), word+"=VALUE")
		}
	}
	if len(values) == 0 {
		return nil, "", nil
	}
	if m.Value != nil {
		now, note, err := m.Value(m, word, def, values)
		if err != nil || now != nil {
			return now, note, err
		}
	}
	if def.Value == "N" && !leadingNumber.MatchString(values[0]) && values[0] != "auto" && values[0] != "all" {
		return nil, "", fmt.Errorf("%q takes a number", word)
	}
	if choice := choices.FindStringSubmatch(def.Value); choice != nil && m.Checked { // other builds have others
		known := strings.Split(choice[1], ",")
		if slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(known, v) }) {
			return nil, "", fmt.Errorf("%q takes one of %s", word, strings.Join(known, ", "))
		}
	}
	return values, "", nil
}
