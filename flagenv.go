package provisioner

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// readEnv notes what the user says through the engine's own variables. Such a variable counts like its flag.
func (m *flagMerge) readEnv() {
	for _, name := range slices.Sorted(maps.Keys(m.req.Env)) {
		key, value := "env."+name, m.req.Env[name]
		def, ok := m.findEnv(m.set, name)
		switch {
		case m.ownedEnv[name] != "":
			m.problem(key, "%s", m.ownedEnv[name])
		case ok && m.advice(def.Names...) == adviceToken:
			// The environment is the right place for it.
		case ok && m.advice(def.Names...) != "" && !m.isAlone(def.Names, []string{value}):
			m.problem(key, "%q cannot be given: %s", name, m.advice(def.Names...))
		case ok:
			m.sayByEnv(key, name, value, def)
		case m.envPrefix == "" || !strings.HasPrefix(name, m.envPrefix):
			// None of the engine's own.
		case m.sayByFlag(key, name, value):
			// Builds had it, and the flag has the meaning.
		case m.checked:
			m.problem(key, "%s knows no such variable and would ignore it%s", m.judge(), cmp.Or(m.nearestEnv(name), "; remove it"))
		default:
			m.note(key, "no %s that is known here has such a variable, and one that does not know it ignores it%s", m.program, m.nearestEnv(name))
		}
	}
}

// sayByFlag takes a variable that only older builds have, by the flag whose twin it was. It reports whether there is one.
func (m *flagMerge) sayByFlag(key, name, value string) bool {
	change, ok := m.changeOfEnv(name, value)
	switch {
	case !ok || value == "":
		return false
	case !m.checked && m.build > 0 && m.build < change.since:
		m.sayByEnv(key, name, value, change.def())
		return true
	}
	f := userFlag{name: change.long(), full: change.long(), known: true}
	if change.values > 0 {
		f.values = []string{value}
	}
	m.addUser(key, f)
	return true
}

// sayByEnv notes what one variable says. Values that the engine would end at are told as those of its flag are; that of a
// secret is not known.
func (m *flagMerge) sayByEnv(key, name, value string, def engine.FlagDef) {
	given := givenFlag{key: key, name: name, values: []string{value}, negated: deniedByEnv(def, name, value), untold: value == ""}
	if m.isRepeated(flagSubject(def), given) || given.untold {
		return
	}
	switch {
	case def.Env != name && len(def.Negated) > 0:
		if !truthy(value) { // get_value_from_env in arg.cpp of llama.cpp
			m.note(key, "it says no by being there, whatever its value; to say yes, write %q", def.Env)
		}
	case valueCount(def) > 0:
		if _, _, err := m.values(def.Names[len(def.Names)-1], name, def, userFlag{joined: true}, given.values); err != nil {
			m.problem(key, "%v", err)
		}
	case !truthy(value) && !off(value):
		m.problem(key, "%q switches something on or off: write 1 or 0", name)
	}
}

// deniedByEnv reports whether a variable says no. The twin of a negation ("LLAMA_ARG_NO_X") does so whatever its value.
func deniedByEnv(def engine.FlagDef, name, value string) bool {
	if def.Env != name && len(def.Negated) > 0 {
		return true
	}
	return denies(def) != (def.Value == "" && off(value))
}

// nearestEnv helps with an unknown variable; "" where nothing is like it.
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
	return ""
}

// truthy is how engines read the variable of a switch.
func truthy(value string) bool { return slices.Contains([]string{"on", "enabled", "true", "1"}, value) }
