package provisioner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// readEnv notes what the user says through the engine's own variables. Such a variable counts like its flag.
func (m *flagMerge) readEnv() {
	for _, name := range slices.Sorted(maps.Keys(m.req.Env)) {
		key := "env." + name
		def, ok := m.findEnv(m.set, name)
		switch {
		case m.ownedEnv[name] != "":
			m.problem(key, "%s", m.ownedEnv[name])
		case ok && m.advice(def.Names...) == adviceToken:
			// The environment is the right place for it.
		case ok && m.advice(def.Names...) != "" && !m.isAlone(def.Names, []string{m.req.Env[name]}):
			m.problem(key, "%q cannot be given: %s", name, m.advice(def.Names...))
		case ok:
			value := m.req.Env[name]
			negated := def.Env != name
			if def.Value == "" && !truthy(value) {
				negated = !negated
			}
			m.given[flagSubject(def)] = givenFlag{key: key, name: name, values: []string{value}, negated: negated}
		case m.envPrefix == "" || !strings.HasPrefix(name, m.envPrefix):
			// None of the engine's own.
		case m.checked:
			m.problem(key, "%s knows no such variable and would ignore it%s", m.judge(), m.nearestEnv(name))
		default:
			m.note(key, "no %s that is known here has such a variable, and one that does not know it ignores it", m.program)
		}
	}
}

// nearestEnv helps with an unknown variable.
func (m *flagMerge) nearestEnv(name string) string {
	var known []string
	for _, d := range m.set.Defs {
		if rest, ok := strings.CutPrefix(d.Env, m.envPrefix); ok {
			known = append(known, rest)
		}
	}
	if change, ok := m.changeOfEnv(name, "1"); ok {
		return fmt.Sprintf("; write the flag %q", change.long())
	}
	if n := nearest.Of(strings.TrimPrefix(name, m.envPrefix), known); n != "" {
		return fmt.Sprintf("; did you mean %q?", m.envPrefix+n)
	}
	return "; remove it"
}

// truthy is how engines read the variable of a switch.
func truthy(value string) bool { return slices.Contains([]string{"on", "enabled", "true", "1"}, value) }
