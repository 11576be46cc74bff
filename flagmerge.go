package provisioner

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// flagMerge gathers the flags of one launch, and all that is wrong with them.
type flagMerge struct {
	*flagDialect
	req      engine.Request
	host     engine.Host
	set      engine.FlagSet // the executable's, or the built-in one
	checked  bool           // set is that of the build that will run
	build    int            // the executable's, or the one that the request asks for; 0 when neither is known
	by       string         // what asks for the build, for messages; "" for the executable at hand
	problems []engine.Problem
	notes    []engine.Problem     // see LaunchSpec.Notes
	flags    []userFlag           // the user's list
	given    map[string]givenFlag // by subject, as far as the list was read
	last     string               // the flag before, for words about a stray value
	lastDef  engine.FlagDef       // what is known of it
	defaults []engine.Flag
	user     []engine.Flag
}

// givenFlag is where the user said something on a subject.
type givenFlag struct {
	key     string
	name    string   // as written
	now     string   // its name on this build where that was changed
	values  []string // as the engine gets them; of a variable, its text
	negated bool
	untold  bool // what it says is not known here, as with a secret
}

// merge takes in what the user says, by variables and by flags.
func (d *flagDialect) merge(req engine.Request, host engine.Host) *flagMerge {
	m := &flagMerge{
		flagDialect: d, req: req, host: host, set: host.Binary.Flags, checked: len(host.Binary.Flags.Defs) > 0,
		build: host.Binary.Build, given: map[string]givenFlag{},
	}
	if m.build == 0 && host.Binary.Path == "" {
		pin := d.pinned(req)
		m.build, m.by = pin.build, pin.by
	}
	if !m.checked {
		m.set, m.checked = d.builtin(), m.build == d.newest
	}
	m.readEnv()
	m.flags = d.split(host.Binary.Flags, req.Flags)
	for _, f := range m.flags {
		m.addUser(fmt.Sprintf("flags[%d]", f.index), f)
	}
	return m
}

func (m *flagMerge) problem(key, format string, args ...any) {
	m.problems = append(m.problems, engine.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

func (m *flagMerge) note(key, format string, args ...any) {
	m.notes = append(m.notes, engine.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// judge is what the flags are judged by, for messages.
func (m *flagMerge) judge() string {
	switch {
	case m.by != "":
		return fmt.Sprintf("%s by %s", m.program, m.by)
	case m.checked:
		return "this " + m.program
	}
	return m.program
}

// err is all that is wrong.
func (m *flagMerge) err() error {
	if len(m.problems) == 0 {
		return nil
	}
	return &engine.ConfigError{Problems: m.problems}
}

// onCPU reports whether no GPU may or can be used.
func (m *flagMerge) onCPU() bool {
	return m.req.GPU == engine.GPUNone || m.req.GPU == engine.GPUOptional && len(m.host.GPUs) == 0
}

// has reports whether the executable knows a flag.
func (m *flagMerge) has(name string) bool {
	_, _, _, ok := m.find(m.set, name)
	return ok
}

// since reports whether the executable knows a flag that a build brought. One of which nothing is known may not; where
// there is no executable at all yet, it is the newest.
func (m *flagMerge) since(flag string, build int) bool {
	if m.checked || m.host.Binary.Path == "" && m.build == 0 {
		return m.has(flag)
	}
	return m.build >= build
}

// says reports whether the user said something on one of the subjects.
func (m *flagMerge) says(subjects ...string) bool {
	return slices.ContainsFunc(subjects, func(s string) bool { _, ok := m.given[s]; return ok })
}

// said is the user's first value on a subject, "" for none.
func (m *flagMerge) said(subject string) string {
	if given := m.given[subject]; len(given.values) > 0 {
		return given.values[0]
	}
	return ""
}

// saidAnywhere is said, also of flags that are still to be read.
func (m *flagMerge) saidAnywhere(subject string) string {
	for _, f := range m.flags {
		if def, _, ok := m.lookUp(m.set, f.name); ok && flagSubject(def) == subject && len(f.values) > 0 {
			return f.values[0]
		}
	}
	return m.said(subject)
}

// count is the number that the user says on a subject, else the default's if it is a number; 0 when there is none above 0.
func (m *flagMerge) count(subject string) int {
	text := m.said(subject)
	for _, f := range m.defaults {
		if text == "" && len(f.Args) == 2 && strings.TrimPrefix(f.Args[0], "--") == subject {
			text = f.Args[1]
		}
	}
	n, _ := strconv.Atoi(text)
	return max(n, 0)
}

// on reports whether a switch is on that is on unless the user says otherwise.
func (m *flagMerge) on(flag string) bool {
	given, ok := m.given[strings.TrimPrefix(flag, "--")]
	return !ok && m.has(flag) || ok && !given.negated
}

// addressFlags say where to listen.
func (m *flagMerge) addressFlags(host string) []engine.Flag {
	return []engine.Flag{
		{Args: []string{host, cmp.Or(m.req.Host, "127.0.0.1")}, Origin: engine.OriginProvisioner, Key: "host"},
		{Args: []string{"--port", strconv.Itoa(m.req.Port)}, Origin: engine.OriginProvisioner, Key: "port"},
	}
}

// engineDefaults reports whether the user wants the engine as it is.
func (m *flagMerge) engineDefaults() bool { return m.req.EngineDefaults }

// addDefaults adds a flag for each subject that the user left open.
func (m *flagMerge) addDefaults() {
	if m.engineDefaults() {
		return
	}
	for _, d := range m.flagDialect.defaults {
		if m.says(d.subjects...) || d.when != nil && !d.when(m) {
			continue
		}
		for _, args := range d.args {
			if m.has(args[0]) {
				m.defaults = append(m.defaults, engine.Flag{Args: args, Origin: engine.OriginDefault, Note: d.note})
				break
			}
		}
	}
}

// addUser takes one flag of the user, which stands at key, or reports what is wrong with it. Messages name flags and never values:
// a value may be a secret.
func (m *flagMerge) addUser(key string, f userFlag) {
	if f.stray {
		switch {
		case m.last == "":
			m.problem(key, `a value without a flag before it; if it is the model, write "model: {id: …}"`)
		case len(m.lastDef.Negated) > 0 && off(strings.ToLower(f.name)):
			m.problem(key, "%q takes no value; write %q instead of both", m.last, m.lastDef.Negated[len(m.lastDef.Negated)-1])
		case len(m.lastDef.Names) > 0 && valueCount(m.lastDef) == 0:
			m.problem(key, "%q takes no value; remove what follows it", m.last)
		default:
			m.problem(key, "a value too many after %q; remove it, write the flag that it belongs to before it, "+
				"or put a value with a comma in quotes, where YAML would split it", m.last)
		}
		return
	}
	name := m.canonicalName(f)
	word := f.name[:endOfName(f.name)] // as the user wrote it, for messages
	m.last = word

	lookup := hyphens(name[:endOfName(name)])
	def, _, negated, ok := m.find(m.set, lookup)
	if !ok {
		def, _, negated, _ = m.find(m.builtin(), lookup)
	}
	m.lastDef = def
	names := append([]string{lookup}, slices.Concat(def.Names, def.Negated)...)
	if advice := m.advice(names...); advice != "" && !m.isAlone(names, f.values) {
		m.problem(key, "%q cannot be given: %s", word, withValue(advice, f.values))
		return
	}
	if len(lookup) < len(name) {
		if def, _, known := m.lookUp(m.set, lookup); known {
			m.problem(key, "%s", m.badElement(word, lookup, valueCount(def), name[len(lookup)]))
			return
		}
	}

	flag := engine.Flag{Origin: engine.OriginConfig, Key: key, Note: m.rewritten(f, name)}
	values, now := f.values, ""
	if !ok {
		change, changed := m.change(lookup)
		to := m.successor(change)
		switch {
		case changed && !m.checked && m.build > 0 && m.build < change.since:
			def = change.def()
		case changed && !m.checked && m.build == 0 && to == nil && change.since > 1:
			// Some build in use has it, and which one will run is not known yet.
			def = change.def()
			m.note(key, "newer builds of %s have no %q any more; there, %s", m.program, word, change.advice)
		case changed && to == nil:
			m.problem(key, "%s has no %q any more; %s", m.judge(), word, change.advice)
			return
		case changed && (!m.checked || m.has(to[0])):
			name, now, values = to[0], to[0], slices.Concat(to[1:], values)
			flag.Note = fmt.Sprintf("rewritten from %q", word)
			def, _, negated, _ = m.find(m.set, name)
		case m.checked:
			m.problem(key, "%s does not know %q%s", m.judge(), word, m.nearestFlag(lookup, def))
			return
		default:
			// Maybe of a build that is not known here, and there is no executable at hand to ask.
			m.note(key, "no %s that is known here has %q%s; it is passed on, and the one that will run judges it", m.program, word, m.meant(lookup))
			flag.Args = m.args(f, name, values)
			m.user = append(m.user, flag)
			return
		}
	}
	negated = negated || strings.HasPrefix(def.Names[0], "--no-")
	given := givenFlag{key: key, name: word, now: now, values: values, negated: negated}
	if m.isRepeated(flagSubject(def), given) {
		return
	}
	values, note, err := m.values(name, word, def, f, values)
	if err != nil {
		m.problem(key, "%v", err)
		return
	}
	switch instead := m.deprecated[name]; {
	case note != "":
		flag.Note = note
	case instead != "":
		flag.Note = "deprecated: " + instead
	}
	flag.Args = m.args(f, name, values)
	m.user = append(m.user, flag)
}

// withValue puts the user's own value into the advice where it is none of a secret.
func withValue(advice string, values []string) string {
	if len(values) != 1 {
		return advice
	}
	value := values[0]
	switch advice {
	case advicePort:
		if n, err := strconv.ParseUint(value, 10, 16); err == nil && n > 0 {
			return strings.Replace(advice, "8081", value, 1)
		}
	case adviceHost:
		if _, err := netip.ParseAddr(value); err == nil {
			return strings.Replace(advice, "127.0.0.1", value, 1)
		}
	}
	return advice
}

// endOfName is where a flag's name ends in an element that may hold more.
func endOfName(element string) int {
	if i := strings.IndexAny(element, "= \t\n"); i >= 0 {
		return i
	}
	return len(element)
}

// badElement says what is wrong with an element that holds a flag and more.
func (m *flagMerge) badElement(word, name string, values int, sep byte) string {
	switch {
	case values == 0:
		return fmt.Sprintf("%q takes no value; write it alone", word)
	case sep == '=' && m.bridged[name] != "":
		return fmt.Sprintf("%q takes %s", word, m.bridged[name])
	case sep == '=':
		return fmt.Sprintf("%q takes %d values; write each as an element of its own", word, values)
	}
	return fmt.Sprintf("%q and its value are one element; write them as two", word)
}

func (m *flagMerge) rewritten(f userFlag, name string) string {
	switch {
	case f.name != name:
		return fmt.Sprintf("rewritten from %q", f.name)
	case f.joined && !m.joined:
		return fmt.Sprintf(`split at "=", which %s does not know`, m.program)
	}
	return ""
}

// nearestFlag helps with an unknown flag. A flag that other builds know needs no guess.
func (m *flagMerge) nearestFlag(word string, elsewhere engine.FlagDef) string {
	const some = 4 // of many, none is likely to be meant
	switch n, several := m.typo(word), m.beginningWith(m.set, word); {
	case len(several) > 1 && len(several) <= some:
		return fmt.Sprintf("; it is the beginning of %s: write one of them", strings.Join(several, ", "))
	case len(elsewhere.Names) > 0 && m.build > 0 && m.build < m.newest:
		return fmt.Sprintf("; newer builds do: update %s, or leave the flag out", m.program)
	case len(elsewhere.Names) > 0:
		return "; other builds do: leave the flag out, or use one of those"
	case n == "":
		return "; remove it"
	case m.advice(n) != "":
		return fmt.Sprintf("; if %q is meant, it cannot be given: %s", n, m.advice(n))
	default:
		return fmt.Sprintf("; did you mean %q?", n)
	}
}

// meant helps with a flag that may be one of a build that is not known here.
func (m *flagMerge) meant(word string) string {
	if n := m.typo(word); n != "" {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	return ""
}

// typo is the flag that an unknown one may be a slip of; "" for none.
func (m *flagMerge) typo(word string) string {
	if m.dotted {
		word, _, _ = strings.Cut(word, ".")
	}
	return nearest.Typo(word, spellings(m.set, strings.HasPrefix(word, "--")))
}
