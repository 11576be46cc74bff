package flagline

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
func (m *Line) readEnv() {
	for _, name := range slices.Sorted(maps.Keys(m.Request.Env)) {
		key, value := "env."+name, m.Request.Env[name]
		def, ok := m.FindEnv(m.Set, name)
		switch {
		case m.OwnedEnv[name] != "":
			m.Problem(key, "%s", m.OwnedEnv[name])
		case ok && m.Advice(def.Names...) == AdviceToken:
			// The environment is the right place for it.
		case ok && m.Advice(def.Names...) != "" && !m.IsAlone(def.Names, []string{value}):
			m.Problem(key, "%q cannot be given: %s", name, m.Advice(def.Names...))
		case ok:
			m.sayByEnv(key, name, value, def)
		case m.EnvPrefix == "" || !strings.HasPrefix(name, m.EnvPrefix):
			// None of the engine's own.
		case m.sayByFlag(key, name, value):
			// Builds had it, and the flag has the meaning.
		case m.Checked:
			m.Problem(key, "%s knows no such variable and would ignore it%s", m.judge(), cmp.Or(m.nearestEnv(name), "; remove it"))
		default:
			m.Note(key, "no %s that is known here has such a variable, and one that does not know it ignores it%s", m.Program, m.nearestEnv(name))
		}
	}
}

// sayByFlag takes a variable that only older builds have, by the flag whose twin it was. It reports whether there is one.
func (m *Line) sayByFlag(key, name, value string) bool {
	change, ok := m.ChangeOfEnv(name, value)
	switch {
	case !ok || value == "":
		return false
	case !m.Checked && m.Build > 0 && m.Build < change.Since:
		m.sayByEnv(key, name, value, change.Def())
		return true
	}
	f := Word{Name: change.Long(), Full: change.Long(), Known: true}
	if change.Values > 0 {
		f.Values = []string{value}
	}
	m.addUser(key, f)
	return true
}

// sayByEnv notes what one variable says. Values that the engine would end at are told as those of its flag are; that of a
// secret is not known.
func (m *Line) sayByEnv(key, name, value string, def engine.FlagDef) {
	given := givenFlag{key: key, name: name, values: []string{value}, negated: DeniedByEnv(def, name, value), untold: value == ""}
	if m.isRepeated(Subject(def), given) || given.untold {
		return
	}
	switch {
	case def.Env != name && len(def.Negated) > 0:
		if !IsOn(value) { // get_value_from_env in arg.cpp of llama.cpp
			m.Note(key, "it says no by being there, whatever its value; to say yes, write %q", def.Env)
		}
	case valueCount(def) > 0:
		if _, _, err := m.values(def.Names[len(def.Names)-1], name, def, Word{Joined: true}, given.values); err != nil {
			m.Problem(key, "%v", err)
		}
	case !IsOn(value) && !IsOff(value):
		m.Problem(key, "%q switches something on or off: write 1 or 0", name)
	}
}

// DeniedByEnv reports whether a variable says no. The twin of a negation ("LLAMA_ARG_NO_X") does so whatever its value.
func DeniedByEnv(def engine.FlagDef, name, value string) bool {
	if def.Env != name && len(def.Negated) > 0 {
		return true
	}
	return Denies(def) != (def.Value == "" && IsOff(value))
}

// nearestEnv helps with an unknown variable; "" where nothing is like it.
func (m *Line) nearestEnv(name string) string {
	var known []string
	for _, d := range m.Set.Defs {
		if rest, ok := strings.CutPrefix(d.Env, m.EnvPrefix); ok {
			known = append(known, rest)
		}
	}
	if change, ok := m.ChangeOfEnv(name, "1"); ok {
		return fmt.Sprintf("; write the flag %q", change.Long())
	}
	if n := nearest.Of(strings.TrimPrefix(name, m.EnvPrefix), known); n != "" {
		return fmt.Sprintf("; did you mean %q?", m.EnvPrefix+n)
	}
	return ""
}

// IsOn is how engines read the variable of a switch.
func IsOn(value string) bool { return slices.Contains([]string{"on", "enabled", "true", "1"}, value) }

// IsOff is how engines read a word that says no.
func IsOff(value string) bool {
	return slices.Contains([]string{"off", "0", "false", "disabled"}, value)
}
