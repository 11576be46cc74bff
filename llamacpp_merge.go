package provisioner

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/nearest"
)

// llamaLaunch gathers the command line of one launch, and all that is wrong with it.
type llamaLaunch struct {
	cfg      ProvisionConfig
	build    int
	set      FlagSet // the executable's, or the built-in one
	checked  bool    // set is the executable's
	cpu      bool    // no GPU may or can be used
	problems []Problem
	given    map[string]givenFlag // by subject
	last     string               // the flag before, for words about a stray value
	defaults []Flag
	user     []Flag
	metrics  bool
}

// givenFlag is where the user said something on a subject.
type givenFlag struct {
	key     string
	name    string // as written
	now     string // its name on this build where that was changed
	negated bool
}

func newLlamaLaunch(cfg ProvisionConfig, host Host) *llamaLaunch {
	l := &llamaLaunch{
		cfg: cfg, build: host.Binary.Build, set: host.Binary.Flags, checked: host.Binary.Flags.known(),
		cpu:   cfg.GPU == GPUNone || cfg.GPU == GPUOptional && len(host.GPUs) == 0,
		given: map[string]givenFlag{},
	}
	if !l.checked {
		l.set = builtinLlamaFlags()
	}
	return l
}

func (l *llamaLaunch) problem(key, format string, args ...any) {
	l.problems = append(l.problems, Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// readEnv notes what the user says through the engine's own variables. Such a variable counts like its flag.
func (l *llamaLaunch) readEnv() {
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Env)) {
		key := "env." + name
		def, ok := l.set.findEnv(name)
		switch {
		case name == "LLAMA_API_KEY":
			l.problem(key, `write the key as "api_key: {from_env: NAME}" or "api_key: {from_file: PATH}"`)
		case name == "AIP_MODE":
			// llama-server then takes its port from AIP_HTTP_PORT (server-http.cpp of b10587).
			l.problem(key, `it would change the engine's port; remove it`)
		case ok && ownedAdvice(def.Names...) == adviceToken:
			// The environment is the right place for it.
		case ok && ownedAdvice(def.Names...) != "":
			l.problem(key, "%q cannot be given: %s", name, ownedAdvice(def.Names...))
		case ok:
			value := l.cfg.Env[name].Value
			negated := def.Env != name
			if def.Value == "" && !truthy(value) {
				negated = !negated
			}
			l.given[def.subject()] = givenFlag{key: key, name: name, negated: negated}
		case l.checked && strings.HasPrefix(name, "LLAMA_ARG_"):
			l.problem(key, "this llama-server knows no such variable and would ignore it%s", l.nearestEnv(name))
		}
	}
}

// nearestEnv helps with an unknown variable.
func (l *llamaLaunch) nearestEnv(name string) string {
	const prefix = "LLAMA_ARG_"
	var known []string
	for _, d := range l.set.Defs {
		if rest, ok := strings.CutPrefix(d.Env, prefix); ok {
			known = append(known, rest)
		}
	}
	if n := nearest.Of(strings.TrimPrefix(name, prefix), known); n != "" {
		return fmt.Sprintf("; did you mean %q?", prefix+n)
	}
	return "; remove it"
}

// truthy is how llama-server reads the variable of a switch.
func truthy(value string) bool { return slices.Contains([]string{"on", "enabled", "true", "1"}, value) }

// ownedAdvice says what to write instead of a flag that the user may not give; "" when it is the user's.
func ownedAdvice(names ...string) string {
	for _, o := range llamaOwned {
		for _, n := range names {
			if slices.Contains(o.names, n) {
				return o.advice
			}
		}
	}
	return ""
}

// addUser takes one flag of the user's list, or reports what is wrong with it. Messages name flags and never values:
// a value may be a secret.
func (l *llamaLaunch) addUser(f userFlag) {
	key := fmt.Sprintf("flags[%d]", f.index)
	if f.stray {
		if l.last == "" {
			l.problem(key, `a value without a flag before it; if it is the model, write "model: {id: …}"`)
		} else {
			l.problem(key, "a value too many after %q; remove it, or write the flag that it belongs to before it", l.last)
		}
		return
	}
	name := f.canonical()
	word := f.name[:endOfName(f.name)] // as the user wrote it, for messages
	l.last = word

	lookup := hyphens(name[:endOfName(name)])
	def, negated, ok := l.set.find(lookup)
	if !ok {
		def, negated, _ = builtinLlamaFlags().find(lookup)
	}
	names := append([]string{lookup}, slices.Concat(def.Names, def.Negated)...)
	if advice := ownedAdvice(names...); advice != "" {
		l.problem(key, "%q cannot be given: %s", word, advice)
		return
	}
	if len(lookup) < len(name) {
		if n, known := llamaValues(l.set, lookup); known {
			l.problem(key, "%s", badElement(word, n, name[len(lookup)]))
			return
		}
	}

	flag := Flag{Origin: OriginConfig, Key: key, Note: rewritten(f, name)}
	values, now := f.values, ""
	if !ok {
		change, changed := llamaChangeOf(lookup)
		switch {
		case changed && !l.checked && l.build > 0 && l.build < change.since:
			def = FlagDef{Names: change.old, Value: strings.Repeat("N", change.values)}
		case changed && change.to == nil:
			l.problem(key, "llama-server has no %q any more; %s", word, change.advice)
			return
		case changed && (!l.checked || l.set.has(change.to[0])):
			name, now, values = change.to[0], change.to[0], slices.Concat(change.to[1:], values)
			flag.Note = fmt.Sprintf("rewritten from %q", word)
			def, negated, _ = l.set.find(name)
		case l.checked:
			l.problem(key, "this llama-server does not know %q%s", word, l.nearestFlag(lookup, def))
			return
		default:
			// A flag of a build that is newer than this package, and no executable at hand to ask.
			flag.Args = append([]string{name}, values...)
			l.user = append(l.user, flag)
			return
		}
	}
	negated = negated || strings.HasPrefix(def.Names[0], "--no-")
	if l.isRepeated(def.subject(), givenFlag{key: key, name: word, now: now, negated: negated}) {
		return
	}
	values, note, err := l.values(name, word, def, f, values)
	if err != nil {
		l.problem(key, "%v", err)
		return
	}
	if note != "" {
		flag.Note = note
	}
	flag.Args = append([]string{name}, values...)
	l.user = append(l.user, flag)
}

// endOfName is where a flag's name ends in an element that may hold more.
func endOfName(element string) int {
	if i := strings.IndexAny(element, "= \t\n"); i >= 0 {
		return i
	}
	return len(element)
}

// badElement says what is wrong with an element that holds a flag and more.
func badElement(word string, values int, sep byte) string {
	switch {
	case values == 0:
		return fmt.Sprintf("%q takes no value; write it alone", word)
	case sep == '=' && isFlashAttn(word):
		return fmt.Sprintf("%q takes on, off or auto", word)
	case sep == '=':
		return fmt.Sprintf("%q takes %d values; write each as an element of its own", word, values)
	}
	return fmt.Sprintf("%q and its value are one element; write them as two", word)
}

func rewritten(f userFlag, name string) string {
	switch {
	case f.name != name:
		return fmt.Sprintf("rewritten from %q", f.name)
	case f.joined:
		return `split at "=", which llama-server does not know`
	}
	return ""
}

// nearestFlag helps with an unknown flag. A flag that other builds know needs no guess.
func (l *llamaLaunch) nearestFlag(word string, elsewhere FlagDef) string {
	if len(elsewhere.Names) > 0 {
		return "; other builds do: update llama-server, or leave the flag out"
	}
	switch n := nearest.Of(word, l.set.spellings(strings.HasPrefix(word, "--"))); {
	case n == "":
		return "; remove it"
	case ownedAdvice(n) != "":
		return fmt.Sprintf("; if %q is meant, it cannot be given: %s", n, ownedAdvice(n))
	default:
		return fmt.Sprintf("; did you mean %q?", n)
	}
}

// isRepeated notes what the user says on a subject, and reports a second word on it.
func (l *llamaLaunch) isRepeated(subject string, f givenFlag) bool {
	before, ok := l.given[subject]
	if !ok {
		l.given[subject] = f
		return false
	}
	switch {
	case slices.Contains(llamaRepeatable, subject) && !strings.HasPrefix(before.key, "env."):
		return false
	case before.now+f.now != "":
		l.problem(f.key, "%q and %q in %s are both %q on this llama-server; write that once",
			f.name, before.name, before.key, cmp.Or(f.now, before.now))
	case before.negated != f.negated:
		l.problem(f.key, "%q contradicts %q in %s; keep one of them", f.name, before.name, before.key)
	case strings.HasPrefix(before.key, "env."):
		l.problem(f.key, "%q says the same as %s; keep one of them", f.name, before.key)
	case before.name == f.name:
		l.problem(f.key, "%q is already in %s; keep one of them", f.name, before.key)
	default:
		l.problem(f.key, "%q says the same as %q in %s; keep one of them", f.name, before.name, before.key)
	}
	return true
}

var (
	leadingNumber = regexp.MustCompile(`^\s*[-+]?\.?[0-9]`)
	choices       = regexp.MustCompile(`^\{([^{}]+)\}$`)
)

// values checks the values of a flag and translates those that mean different things on different builds.
func (l *llamaLaunch) values(name, word string, def FlagDef, f userFlag, values []string) ([]string, string, error) {
	if isFlashAttn(name) {
		return l.flashAttn(word, def, values)
	}
	want := def.values()
	switch {
	case len(values) < want && want == 1:
		return nil, "", fmt.Errorf("%q needs a value (%s); write it as the next element", word, def.Value)
	case len(values) < want:
		return nil, "", fmt.Errorf("%q needs %d values (%s); write each as an element of its own", word, want, def.Value)
	case len(values) > want:
		return nil, "", fmt.Errorf("%q takes no value on this llama-server; write it alone", word)
	}
	for _, v := range values {
		if !f.joined && flagShape.MatchString(v) && l.set.has(v) {
			return nil, "", fmt.Errorf("%q needs a value (%s), but the flag %q follows; if that is the value, write %q",
				word, def.Value, v, word+"="+v)
		}
	}
	if want == 0 {
		return nil, "", nil
	}
	switch def.subject() {
	case subjectGPULayers:
		return l.gpuLayers(word, values[0])
	case subjectDevice:
		if l.cfg.GPU == GPUNone && values[0] != "none" {
			return nil, "", fmt.Errorf(`%q chooses a GPU while "gpu" is none; remove one of them`, word)
		}
	}
	if def.Value == "N" && !leadingNumber.MatchString(values[0]) && values[0] != "auto" && values[0] != "all" {
		return nil, "", fmt.Errorf("%q takes a number", word)
	}
	if m := choices.FindStringSubmatch(def.Value); m != nil {
		if known := strings.Split(m[1], ","); !slices.Contains(known, values[0]) {
			return nil, "", fmt.Errorf("%q takes one of %s", word, strings.Join(known, ", "))
		}
	}
	return values, "", nil
}

// flashAttn bridges b6325 (llama.cpp #15434), which gave --flash-attn a value. Without one it eats the flag after it.
func (l *llamaLaunch) flashAttn(word string, def FlagDef, values []string) ([]string, string, error) {
	isSwitch := def.Value == "" || !l.checked && l.build > 0 && l.build < 6325
	switch {
	case len(values) == 0 && isSwitch:
		return nil, "", nil
	case len(values) == 0:
		return []string{"on"}, fmt.Sprintf("rewritten from %q, which takes a value since b6325", word), nil
	case isSwitch && truthy(values[0]):
		return nil, fmt.Sprintf("rewritten from %q with a value, which it takes since b6325", word), nil
	case isSwitch:
		return nil, "", fmt.Errorf("%q takes no value before b6325; leave it out for off", word)
	case !truthy(values[0]) && !slices.Contains([]string{"off", "disabled", "false", "0", "auto", "-1"}, values[0]):
		return nil, "", fmt.Errorf("%q takes on, off or auto", word)
	}
	return values, "", nil
}
