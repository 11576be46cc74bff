package variables

import (
	"slices"
	"testing"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	known := map[string]string{"A": "a", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := known[name]; return v, ok }
	for text, want := range map[string]struct {
		expanded string
		unknown  []string
	}{
		"plain":                    {"plain", nil},
		"$A-${A}b$$A":              {"a-ab$A", nil},
		"$X ${Y}":                  {"${X} ${Y}", []string{"${X}", "${Y}"}},
		"${X:-d} ${X-d} ${A:-d}":   {"d d a", nil},
		"${EMPTY:-d}|${EMPTY-d}":   {"d|", nil},
		"${X:-${Y:-${A}}}/${X:-b}": {"a/b", nil},
		"${X:-${Y}}":               {"${Y}", []string{"${Y}"}},
		"${X:?must be} ${A:?x}":    {"${X} a", []string{"${X}"}},
		"${X:+d}":                  {"", nil},
	} {
		got, unknown := Expand(text, lookup)
		if got != want.expanded || !slices.Equal(unknown, want.unknown) {
			t.Errorf("%s: %q %q, want %+v", text, got, unknown, want)
		}
	}
	for _, text := range []string{"$", "${", "$1", "a$"} {
		if got, unknown := Expand(text, lookup); got != text || unknown != nil {
			t.Errorf("%s: %q %q", text, got, unknown)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$$a ${B:-${C-d}}$E ${F:?g} ${} ${1} $", "B")
	f.Fuzz(func(t *testing.T, text, known string) {
		expanded, unknown := Expand(text, func(name string) (string, bool) { return "v", name == known })
		if len(expanded) > 4*len(text) || len(unknown) > len(text) {
			t.Errorf("%q: %q", text, expanded)
		}
	})
}
