package flagline

import (
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

var (
	clapFlag   = regexp.MustCompile(`^ {2,6}(?:(-[A-Za-z0-9]), )?(--[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?: ?(\[?=?<.+>.*|\[[^\]]+\]))?(?:  .*)?$`)
	clapName   = regexp.MustCompile(`<([^>]+)>`)
	clapEnv    = regexp.MustCompile(`\[env: ([A-Za-z_][A-Za-z0-9_]*)=`)
	clapValues = regexp.MustCompile(`\[possible values: ([^\]]+)\]`)
)

// ParseArgparse reads the help of a Python program: lines of spellings with a placeholder each, or with one for all,
// two spaces from the left, and their description on the same line or below, far to the right.
func ParseArgparse(output string) engine.FlagSet {
	var set engine.FlagSet
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, " \r\n")
		if !strings.HasPrefix(line, "  -") {
			continue
		}
		spellings, _, _ := strings.Cut(line[2:], "  ")
		var names []string
		value := ""
		for _, one := range splitOutside(spellings, ", ") {
			name, placeholder, _ := strings.Cut(one, " ")
			if !helpName.MatchString(name) {
				names = nil
				break
			}
			names = append(names, name)
			value = placeholder
		}
		if len(names) == 0 {
			continue
		}
		def := engine.FlagDef{Names: names}
		if value == "" {
			def.Names, def.Negated = splitArgparse(names)
		} else {
			readMetavar(&def, value)
		}
		set.Defs = append(set.Defs, def)
	}
	return set
}

// readMetavar reads what argparse prints for values (HelpFormatter._format_args): "A" for one, "A A" for two, "[A]" for
// one that may be left out, "A [A ...]" for one or more, "[A ...]" for any number, before Python 3.9 "[A [A ...]]". A is
// any text. Where a flag's two values have names of their own ("START END"), they are words in capitals.
func readMetavar(d *engine.FlagDef, text string) {
	if inner, ok := optionalMetavar(text); ok {
		d.Optional = true
		if rest, ok := strings.CutSuffix(inner, " ...]"); ok { // "A [A ...]"
			inner, _, _ = strings.Cut(rest, " [")
			d.Many = true
		} else if rest, ok := strings.CutSuffix(inner, " ..."); ok {
			inner, d.Many = rest, true
		}
		d.Value = inner
		return
	}
	if rest, ok := strings.CutSuffix(text, " ...]"); ok {
		if first, again, ok := strings.Cut(rest, " ["); ok && first == again {
			d.Value, d.Many = first, true
			return
		}
	}
	d.Value = text
	words := strings.Fields(text)
	same := !slices.ContainsFunc(words, func(w string) bool { return w != words[0] })
	names := !slices.ContainsFunc(words, func(w string) bool { return !metavarName.MatchString(w) })
	if len(words) > 1 && (same || names) {
		d.Count = len(words)
	}
}

var metavarName = regexp.MustCompile(`^[A-Z][A-Z0-9_-]*$`)

// optionalMetavar takes the brackets away that argparse puts around what may be left out. A list of Python's in its
// place ("['auto', 'hf']") is a metavar.
func optionalMetavar(text string) (inner string, ok bool) {
	inner, ok = strings.CutPrefix(text, "[")
	if ok {
		inner, ok = strings.CutSuffix(inner, "]")
	}
	if !ok || inner == "" || strings.ContainsAny(inner[:1], `'"`) {
		return "", false
	}
	depth := 0
	for _, r := range inner {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		}
		if depth < 0 { // "[A] [B]"
			return "", false
		}
	}
	return inner, true
}

// splitArgparse tells the spellings that say no from those that say yes. Unlike in llama-server's help, a short one after
// them says yes: "--enable-expert-parallel, --no-enable-expert-parallel, -ep". vLLM 0.33.0 has pairs, of which the second
// says no, and still takes "--no-" before the first, which its help hides (EnableDisableAction of argparse_utils.py).
func splitArgparse(names []string) (yes, no []string) {
	for _, n := range names {
		rest, isNo := strings.CutPrefix(n, "--no-")
		other := inverse(n)
		switch {
		case isNo && slices.Contains(names, "--"+rest):
			no = append(no, n)
		case other != "" && slices.Contains(yes, other):
			no = append(no, n)
			if hidden := "--no-" + strings.TrimPrefix(other, "--"); !slices.Contains(names, hidden) {
				no = append(no, hidden)
			}
		default:
			yes = append(yes, n)
		}
	}
	return yes, no
}

// inverse is the other name of a pair such as "--enable-x" and "--disable-x"; "" for a name of another kind.
func inverse(name string) string {
	for from, to := range map[string]string{"--enable-": "--disable-", "--disable-": "--enable-"} {
		if rest, ok := strings.CutPrefix(name, from); ok {
			return to + rest
		}
	}
	return ""
}

// splitOutside splits at sep where no bracket is open.
func splitOutside(s, sep string) []string {
	var parts []string
	depth, begin := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '[', '{', '(', '<':
			depth++
		case ']', '}', ')', '>':
			depth--
		}
		if depth <= 0 && i >= begin && strings.HasPrefix(s[i:], sep) {
			parts = append(parts, s[begin:i])
			begin = i + len(sep)
		}
	}
	return append(parts, s[begin:])
}

// ParseClap reads the long help of a Rust program: a line of at most two spellings and a placeholder, and below it,
// further to the right, the description, the variable that says the same, and what values there are.
func ParseClap(output string) engine.FlagSet {
	var set engine.FlagSet
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, " \r\n")
		if m := clapFlag.FindStringSubmatch(line); m != nil {
			def := engine.FlagDef{}
			readClapValue(&def, m[3])
			if m[1] != "" {
				def.Names = append(def.Names, m[1])
			}
			def.Names = append(def.Names, m[2])
			set.Defs = append(set.Defs, def)
		}
		if len(set.Defs) == 0 {
			continue
		}
		last := &set.Defs[len(set.Defs)-1]
		if m := clapEnv.FindStringSubmatch(line); m != nil && last.Env == "" {
			last.Env = m[1]
		}
		if m := clapValues.FindStringSubmatch(line); m != nil && last.Value != "" && !strings.HasPrefix(last.Value, "{") {
			last.Value = "{" + strings.ReplaceAll(m[1], ", ", ",") + "}"
		}
	}
	return set
}

// readClapValue reads "<A>", "<A> <B>" for two values, "<A>..." for more, and "[<A>]", "[=<A>]" for what may be left out.
func readClapValue(d *engine.FlagDef, text string) {
	if text, _, _ = strings.Cut(text, "  "); text == "" {
		return
	}
	text, d.Many = strings.CutSuffix(text, "...")
	d.Optional = strings.HasPrefix(text, "[")
	names := clapName.FindAllStringSubmatch(text, -1)
	if len(names) == 0 { // clap 2 has "[A]"
		d.Value = strings.Trim(text, "[]")
		return
	}
	if d.Value = names[0][1]; len(names) > 1 {
		d.Value, d.Count = text, len(names)
	}
}
