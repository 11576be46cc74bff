package flagline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// isRepeated notes what the user says on a subject, and reports a second word on it.
func (m *Line) isRepeated(subject string, f givenFlag) bool {
	before, ok := m.given[subject]
	if !ok {
		m.given[subject] = f
		return m.Dotted && m.isReplaced(subject, f)
	}
	switch {
	case m.Dotted && strings.HasSuffix(subject, "+"): // adds to a list
		return false
	case slices.Contains(m.Repeatable, subject) && !strings.HasPrefix(before.key, "env."):
		return false
	case before.now+f.now != "" && m.unite(subject, before, f):
		return true
	case before.now+f.now != "":
		m.Problem(f.key, "%q and %q in %s are both %q on this %s; write that once",
			f.name, before.name, before.key, cmp.Or(f.now, before.now), m.Program)
	case strings.HasPrefix(f.key, "env."):
		m.Problem(f.key, "%q and %q are about the same; keep one of them", f.name, before.name)
	case before.untold:
		m.Problem(f.key, "%q says the same as %s, or the contrary: its value is not known here; keep one of them", f.name, before.key)
	case before.negated != f.negated:
		m.Problem(f.key, "%q contradicts %q in %s; keep one of them", f.name, before.name, before.key)
	case strings.HasPrefix(before.key, "env.") && len(f.values) > 0 && !slices.Equal(before.values, f.values):
		m.Problem(f.key, "%q and %s say different things, of which the engine takes the flag's; keep one of them", f.name, before.key)
	case strings.HasPrefix(before.key, "env."):
		m.Problem(f.key, "%q says the same as %s; keep one of them", f.name, before.key)
	case before.name == f.name:
		m.Problem(f.key, "%q is already in %s; keep one of them", f.name, before.key)
	default:
		m.Problem(f.key, "%q says the same as %q in %s; keep one of them", f.name, before.name, before.key)
	}
	return true
}

// unite lets the flag before say what both say, where the engine has one value for both.
func (m *Line) unite(subject string, before, f givenFlag) bool {
	both, ok := m.United[strings.Join(append(slices.Clone(before.values), f.values...), " ")]
	i := slices.IndexFunc(m.User, func(flag engine.Flag) bool { return flag.Key == before.key })
	if !ok || i < 0 {
		return false
	}
	m.User[i].Args = []string{m.User[i].Args[0], both}
	m.User[i].Note = fmt.Sprintf("rewritten from %q and %q", before.name, f.name)
	before.name, before.values = before.name+" "+f.name, []string{both} // a third may follow
	m.given[subject] = before
	return true
}

// isReplaced reports a JSON value beside keys of it: the engine makes a value of the keys, which replaces the other.
func (m *Line) isReplaced(subject string, f givenFlag) bool {
	for _, other := range slices.Sorted(maps.Keys(m.given)) {
		if strings.HasPrefix(other, subject+".") || strings.HasPrefix(subject, other+".") {
			m.Problem(f.key, "%q and %q in %s are about the same value, and one replaces the other; write all of it as keys, or as one value",
				f.name, m.given[other].name, m.given[other].key)
			return true
		}
	}
	return false
}
