package provisioner

import (
	"regexp"
	"slices"
	"strings"
)

var (
	argparseMany = regexp.MustCompile(`^(\S+) \[\S+ \.\.\.\]$`)
	argparseAny  = regexp.MustCompile(`^\[(\S+) \.\.\.\]$`)
	argparseOpt  = regexp.MustCompile(`^\[([^'"\s\[\]]+)\]$`)

	clapFlag   = regexp.MustCompile(`^ {2,6}(?:(-[A-Za-z0-9]), )?(--[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?: (<[^>]+>|\[[^\]]+\])(\.\.\.)?)?(?:  .*)?$`)
	clapEnv    = regexp.MustCompile(`\[env: ([A-Za-z_][A-Za-z0-9_]*)=`)
	clapValues = regexp.MustCompile(`\[possible values: ([^\]]+)\]`)
)

// parseArgparseHelp reads the help of a Python program: lines of spellings with a placeholder each, or with one for all,
// two spaces from the left, and their description on the same line or below, far to the right.
func parseArgparseHelp(output string) FlagSet {
	var set FlagSet
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
		def := FlagDef{Names: names}
		switch m := argparseMany.FindStringSubmatch(value); {
		case m != nil:
			def.Value, def.Many = m[1], true
		case argparseAny.MatchString(value):
			def.Value, def.Many, def.Optional = argparseAny.FindStringSubmatch(value)[1], true, true
		case argparseOpt.MatchString(value):
			def.Value, def.Optional = argparseOpt.FindStringSubmatch(value)[1], true
		case value != "":
			def.Value = value
		default:
			def.Names, def.Negated = splitArgparse(names)
		}
		set.Defs = append(set.Defs, def)
	}
	return set
}

// splitArgparse tells the spellings that say no from those that say yes. Unlike in llama-server's help, a short one after
// them says yes: "--enable-expert-parallel, --no-enable-expert-parallel, -ep".
func splitArgparse(names []string) (yes, no []string) {
	for _, n := range names {
		if rest, isNo := strings.CutPrefix(n, "--no-"); isNo && slices.Contains(names, "--"+rest) {
			no = append(no, n)
		} else {
			yes = append(yes, n)
		}
	}
	return yes, no
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

// parseClapHelp reads the long help of a Rust program: a line of at most two spellings and a placeholder, and below it,
// further to the right, the description, the variable that says the same, and what values there are.
func parseClapHelp(output string) FlagSet {
	var set FlagSet
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, " \r\n")
		if m := clapFlag.FindStringSubmatch(line); m != nil {
			def := FlagDef{Value: strings.Trim(m[3], "<>[]"), Optional: strings.HasPrefix(m[3], "["), Many: m[4] != ""}
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
