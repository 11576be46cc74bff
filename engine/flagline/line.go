package flagline

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

// Line gathers the flags of one launch, and all that is wrong with them. [Dialect.Merge] makes one, for one goroutine.
type Line struct {
	*Dialect
	Request  engine.Request
	Host     engine.Host
	Set      engine.FlagSet // the executable's, or the built-in one
	Checked  bool           // set is that of the build that will run
	Build    int            // the executable's, or the one that the request asks for; 0 when neither is known
	by       string         // what asks for the build, for messages; "" for the executable at hand
	problems []engine.Problem
	Notes    []engine.Problem     // see LaunchSpec.Notes
	flags    []Word               // the user's list
	given    map[string]givenFlag // by subject, as far as the list was read
	last     string               // the flag before, for words about a stray value
	lastDef  engine.FlagDef       // what is known of it
	Added    []engine.Flag        // by us, before the user's: defaults, and what other keys decide
	User     []engine.Flag        // the user's, as the engine gets them
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

// Merge takes in what the user says, by variables and by flags.
func (d *Dialect) Merge(req engine.Request, host engine.Host) *Line {
	m := &Line{
		Dialect: d, Request: req, Host: host, Set: host.Binary.Flags, Checked: len(host.Binary.Flags.Defs) > 0,
		Build: host.Binary.Build, given: map[string]givenFlag{},
	}
	if m.Build == 0 && host.Binary.Path == "" && d.Pinned != nil {
		pin := d.Pinned(req)
		m.Build, m.by = pin.Build, pin.By
	}
	if !m.Checked {
		m.Set, m.Checked = d.builtin(), m.Build == d.Newest
	}
	m.readEnv()
	m.flags = d.Split(host.Binary.Flags, req.Flags)
	for _, f := range m.flags {
		m.addUser(fmt.Sprintf("flags[%d]", f.Index), f)
	}
	return m
}

// Problem notes something that is wrong, with the key that it is about. The message must not hold a value that may be a secret.
func (m *Line) Problem(key, format string, args ...any) {
	m.problems = append(m.problems, engine.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// Note notes something that is worth knowing and no problem.
func (m *Line) Note(key, format string, args ...any) {
	m.Notes = append(m.Notes, engine.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// judge is what the flags are judged by, for messages.
func (m *Line) judge() string {
	switch {
	case m.by != "":
		return fmt.Sprintf("%s by %s", m.Program, m.by)
	case m.Checked:
		return "this " + m.Program
	}
	return m.Program
}

// Err is all that is wrong, as an *engine.ConfigError; nil when nothing is.
func (m *Line) Err() error {
	if len(m.problems) == 0 {
		return nil
	}
	return &engine.ConfigError{Problems: m.problems}
}

// OnCPU reports whether no GPU may or can be used.
func (m *Line) OnCPU() bool {
	return m.Request.GPU == engine.GPUNone || m.Request.GPU == engine.GPUOptional && len(m.Host.GPUs) == 0
}

// Has reports whether the executable knows a flag.
func (m *Line) Has(name string) bool {
	_, _, _, ok := m.find(m.Set, name)
	return ok
}

// Since reports whether the executable knows a flag that a build brought. One of which nothing is known may not; where
// there is no executable at all yet, it is the newest.
func (m *Line) Since(flag string, build int) bool {
	if m.Checked || m.Host.Binary.Path == "" && m.Build == 0 {
		return m.Has(flag)
	}
	return m.Build >= build
}

// Says reports whether the user said something on one of the subjects.
func (m *Line) Says(subjects ...string) bool {
	return slices.ContainsFunc(subjects, func(s string) bool { _, ok := m.given[s]; return ok })
}

// Said is the user's first value on a subject, "" for none.
func (m *Line) Said(subject string) string {
	if given := m.given[subject]; len(given.values) > 0 {
		return given.values[0]
	}
	return ""
}

// SaidInEnv returns what the user says on a subject through the environment, with the key of the variable and the name by which
// it is said; false where it is said otherwise, or by a secret whose value is not known.
func (m *Line) SaidInEnv(subject string) (key, name, value string, ok bool) {
	given := m.given[subject]
	if !strings.HasPrefix(given.key, "env.") || given.untold {
		return "", "", "", false
	}
	return given.key, given.name, given.values[0], true
}

// SaidAnywhere is Said, also of flags that are still to be read.
func (m *Line) SaidAnywhere(subject string) string {
	for _, f := range m.flags {
		if def, _, ok := m.LookUp(m.Set, f.Name); ok && Subject(def) == subject && len(f.Values) > 0 {
			return f.Values[0]
		}
	}
	return m.Said(subject)
}

// Count is the number that the user says on a subject, else the default's if it is a number; 0 when there is none above 0.
func (m *Line) Count(subject string) int {
	text := m.Said(subject)
	for _, f := range m.Added {
		if text == "" && len(f.Args) == 2 && strings.TrimPrefix(f.Args[0], "--") == subject {
			text = f.Args[1]
		}
	}
	n, _ := strconv.Atoi(text)
	return max(n, 0)
}

// On reports whether a switch is on that is on unless the user says otherwise.
func (m *Line) On(flag string) bool {
	given, ok := m.given[strings.TrimPrefix(flag, "--")]
	return !ok && m.Has(flag) || ok && !given.negated
}

// Address are the flags that say where to listen.
func (m *Line) Address(hostFlag string) []engine.Flag {
	return []engine.Flag{
		{Args: []string{hostFlag, cmp.Or(m.Request.Host, "127.0.0.1")}, Origin: engine.OriginProvisioner, Key: "host"},
		{Args: []string{"--port", strconv.Itoa(m.Request.Port)}, Origin: engine.OriginProvisioner, Key: "port"},
	}
}

// AddDefaults adds a flag for each subject that the user left open.
func (m *Line) AddDefaults() {
	if m.Request.EngineDefaults {
		return
	}
	for _, d := range m.Dialect.Defaults {
		if m.Says(d.Subjects...) || d.When != nil && !d.When(m) {
			continue
		}
		for _, args := range d.Args {
			if m.Has(args[0]) {
				m.Added = append(m.Added, engine.Flag{Args: args, Origin: engine.OriginDefault, Note: d.Note})
				break
			}
		}
	}
}

// addUser takes one flag of the user, which stands at key, or reports what is wrong with it. Messages name flags and never values:
// a value may be a secret.
func (m *Line) addUser(key string, f Word) {
	if f.Stray {
		switch {
		case m.last == "":
			m.Problem(key, `a value without a flag before it; if it is the model, write "model: {id: …}"`)
		case len(m.lastDef.Negated) > 0 && IsOff(strings.ToLower(f.Name)):
			m.Problem(key, "%q takes no value; write %q instead of both", m.last, m.lastDef.Negated[len(m.lastDef.Negated)-1])
		case len(m.lastDef.Names) > 0 && valueCount(m.lastDef) == 0:
			m.Problem(key, "%q takes no value; remove what follows it", m.last)
		default:
			m.Problem(key, "a value too many after %q; remove it, write the flag that it belongs to before it, "+
				"or put a value with a comma in quotes, where YAML would split it", m.last)
		}
		return
	}
	name := m.canonicalName(f)
	word := NameIn(f.Name) // as the user wrote it, for messages
	m.last = word

	lookup := hyphens(NameIn(name))
	def, _, negated, ok := m.find(m.Set, lookup)
	if !ok {
		def, _, negated, _ = m.find(m.builtin(), lookup)
	}
	m.lastDef = def
	names := append([]string{lookup}, slices.Concat(def.Names, def.Negated)...)
	if advice := m.Advice(names...); advice != "" && !m.IsAlone(names, f.Values) {
		m.Problem(key, "%q cannot be given: %s", word, withValue(advice, f.Values))
		return
	}
	if len(lookup) < len(name) {
		if def, _, known := m.LookUp(m.Set, lookup); known {
			m.Problem(key, "%s", m.badElement(word, lookup, def, name[len(lookup):]))
			return
		}
	}

	flag := engine.Flag{Origin: engine.OriginConfig, Key: key, Note: m.rewritten(f, name)}
	values, now := f.Values, ""
	if !ok {
		change, changed := m.Change(lookup)
		to := m.successor(change)
		switch {
		case changed && !m.Checked && m.Build > 0 && m.Build < change.Since:
			def = change.Def()
		case changed && !m.Checked && m.Build == 0 && to == nil && change.Since > 1:
			// Some build in use has it, and which one will run is not known yet.
			def = change.Def()
			m.Note(key, "newer builds of %s have no %q any more; there, %s", m.Program, word, change.Advice)
		case changed && to == nil:
			m.Problem(key, "%s has no %q any more; %s", m.judge(), word, change.Advice)
			return
		case changed && (!m.Checked || m.Has(to[0])):
			name, now, values = to[0], to[0], slices.Concat(to[1:], values)
			flag.Note = fmt.Sprintf("rewritten from %q", word)
			def, _, negated, _ = m.find(m.Set, name)
		case m.Checked:
			m.Problem(key, "%s does not know %q%s", m.judge(), word, m.nearestFlag(lookup, def))
			return
		default:
			// Maybe of a build that is not known here, and there is no executable at hand to ask.
			m.Note(key, "no %s that is known here has %q%s; it is passed on, and the one that will run judges it", m.Program, word, m.meant(lookup))
			flag.Args = m.args(f, name, values)
			m.User = append(m.User, flag)
			return
		}
	}
	negated = negated || strings.HasPrefix(def.Names[0], "--no-")
	given := givenFlag{key: key, name: word, now: now, values: values, negated: negated}
	if m.isRepeated(Subject(def), given) {
		return
	}
	values, note, err := m.values(name, word, def, f, values)
	if err != nil {
		m.Problem(key, "%v", err)
		return
	}
	switch instead := m.Deprecated[name]; {
	case note != "":
		flag.Note = note
	case instead != "":
		flag.Note = "deprecated: " + instead
	}
	flag.Args = m.args(f, name, values)
	m.User = append(m.User, flag)
}

// withValue puts the user's own value into the advice where it is none of a secret.
func withValue(advice string, values []string) string {
	if len(values) != 1 {
		return advice
	}
	value := values[0]
	switch advice {
	case AdvicePort:
		if n, err := strconv.ParseUint(value, 10, 16); err == nil && n > 0 {
			return strings.Replace(advice, "8081", value, 1)
		}
	case AdviceHost:
		if _, err := netip.ParseAddr(value); err == nil {
			return strings.Replace(advice, "127.0.0.1", value, 1)
		}
	}
	return advice
}

// NameIn is a flag's name in an element that may hold more.
func NameIn(element string) string {
	if i := strings.IndexAny(element, "= \t\n"); i >= 0 {
		return element[:i]
	}
	return element
}

// badElement says what is wrong with an element that holds a flag and more.
func (m *Line) badElement(word, name string, def engine.FlagDef, rest string) string {
	values, sep := valueCount(def), rest[0]
	switch {
	case values == 0 && len(def.Negated) > 0 && IsOff(strings.ToLower(rest[1:])):
		return fmt.Sprintf("%q takes no value; write %q instead", word, def.Negated[len(def.Negated)-1])
	case values == 0:
		return fmt.Sprintf("%q takes no value; write it alone", word)
	case sep == '=' && m.Bridged[name] != "":
		return fmt.Sprintf("%q takes %s", word, m.Bridged[name])
	case sep == '=':
		return fmt.Sprintf("%q takes %d values; write each as an element of its own", word, values)
	}
	return fmt.Sprintf("%q and its value are one element; write them as two", word)
}

func (m *Line) rewritten(f Word, name string) string {
	switch {
	case f.Name != name:
		return fmt.Sprintf("rewritten from %q", f.Name)
	case f.Joined && !m.Joined:
		return fmt.Sprintf(`split at "=", which %s does not know`, m.Program)
	}
	return ""
}

// nearestFlag helps with an unknown flag. A flag that other builds know needs no guess.
func (m *Line) nearestFlag(word string, elsewhere engine.FlagDef) string {
	const some = 4 // of many, none is likely to be meant
	switch n, several := m.typo(word), m.beginningWith(m.Set, word); {
	case len(several) > 1 && len(several) <= some:
		return fmt.Sprintf("; it is the beginning of %s: write one of them", strings.Join(several, ", "))
	case len(elsewhere.Names) > 0 && m.Build > 0 && m.Build < m.Newest:
		return fmt.Sprintf("; newer builds do: update %s, or leave the flag out", m.Program)
	case len(elsewhere.Names) > 0:
		return "; other builds do: leave the flag out, or use one of those"
	case n == "":
		return "; remove it"
	case m.Advice(n) != "":
		return fmt.Sprintf("; if %q is meant, it cannot be given: %s", n, m.Advice(n))
	default:
		return fmt.Sprintf("; did you mean %q?", n)
	}
}

// meant helps with a flag that may be one of a build that is not known here.
func (m *Line) meant(word string) string {
	if n := m.typo(word); n != "" {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	return ""
}

// typo is the flag that an unknown one may be a slip of; "" for none.
func (m *Line) typo(word string) string {
	if m.Dotted {
		word, _, _ = strings.Cut(word, ".")
	}
	return nearest.Typo(word, spellings(m.Set, strings.HasPrefix(word, "--")))
}
