package flagline

import (
	"regexp"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

var (
	helpName = regexp.MustCompile(`^--?[A-Za-z](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	llamaTwo = regexp.MustCompile(`^[A-Z]+ [A-Z]+$`)
	helpEnv  = regexp.MustCompile(`\(env: ([A-Za-z_][A-Za-z0-9_]*)\)`)
)

// ParseLlama reads the help of llama-server: lines of comma-separated spellings and a placeholder that begin at the
// left edge, followed by an indented description. Flags that are listed only to say that they were removed are left out.
func ParseLlama(output string) engine.FlagSet {
	var set engine.FlagSet
	removed := false
	flush := func() {
		if removed {
			set.Defs = set.Defs[:len(set.Defs)-1]
		}
		removed = false
	}
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, " \r\n")
		def, description, ok := parseHelpLine(line)
		if ok {
			flush()
			set.Defs = append(set.Defs, def)
		} else {
			description = line
		}
		if len(set.Defs) == 0 {
			continue
		}
		last := &set.Defs[len(set.Defs)-1]
		if m := helpEnv.FindStringSubmatch(description); m != nil && last.Env == "" {
			last.Env = m[1]
		}
		if strings.Contains(description, "the argument has been removed") {
			removed = true
		}
	}
	flush()
	return set
}

// parseHelpLine reads "-x,    --long, --other VALUE    description".
func parseHelpLine(line string) (def engine.FlagDef, description string, ok bool) {
	// Builds before September 2024 indent the names by two.
	rest := strings.TrimPrefix(line, "  ")
	var names []string
	for {
		word, after, _ := strings.Cut(rest, " ")
		name, more := strings.CutSuffix(word, ",")
		if !helpName.MatchString(name) {
			return engine.FlagDef{}, "", false
		}
		names, rest = append(names, name), after
		if !more {
			break
		}
		rest = strings.TrimLeft(rest, " ")
	}
	if !strings.HasPrefix(rest, " ") {
		def.Value, rest, _ = strings.Cut(rest, "  ")
	}
	def.Names, def.Negated = splitNegated(names)
	if def.Value != "" {
		def.Names, def.Negated = names, nil
	}
	if llamaTwo.MatchString(def.Value) { // common_arg has two hints at most, such as START and END
		def.Count = 2
	}
	return def, strings.TrimSpace(rest), true
}

// splitNegated tells the spellings that say no from those that say yes. Help lists yes first, so a short spelling after
// the last long yes ("--repack, -nr, --no-repack") says no.
func splitNegated(names []string) (yes, no []string) {
	lastYes, anyNo := -1, false
	for i, n := range names {
		switch {
		case strings.HasPrefix(n, "--no-"):
			anyNo = true
		case strings.HasPrefix(n, "--"):
			lastYes = i
		}
	}
	if !anyNo || lastYes < 0 {
		return names, nil
	}
	return names[:lastYes+1], names[lastYes+1:]
}
