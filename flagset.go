package provisioner

import (
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// findFlag returns the subject that name is a spelling of, and whether it is the negated one. Underscores in a long name
// count as hyphens, as they do for most engines.
func findFlag(s engine.FlagSet, name string) (def engine.FlagDef, negated, ok bool) {
	name = hyphens(name)
	same := func(n string) bool { return hyphens(n) == name }
	for _, d := range s.Defs {
		if slices.ContainsFunc(d.Names, same) {
			return d, false, true
		}
		if slices.ContainsFunc(d.Negated, same) {
			return d, true, true
		}
	}
	return engine.FlagDef{}, false, false
}

// hasFlag reports whether name is a spelling that the executable knows.
func hasFlag(s engine.FlagSet, name string) bool {
	_, _, ok := findFlag(s, name)
	return ok
}

// spellings lists all names, long ones only when long is set.
func spellings(s engine.FlagSet, long bool) []string {
	var all []string
	for _, d := range s.Defs {
		for _, n := range slices.Concat(d.Names, d.Negated) {
			if !long || strings.HasPrefix(n, "--") {
				all = append(all, n)
			}
		}
	}
	return all
}

// flagSubject is a name for what the flag is about: its first long spelling without hyphens and without "no-", so that
// builds that list a flag and its negation apart agree with those that list them together.
func flagSubject(d engine.FlagDef) string {
	for _, n := range slices.Concat(d.Names, d.Negated) {
		if long, ok := strings.CutPrefix(n, "--"); ok {
			return strings.TrimPrefix(long, "no-")
		}
	}
	if len(d.Names) == 0 {
		return ""
	}
	return strings.TrimLeft(d.Names[0], "-")
}

// valueCount is the number of elements that follow the flag. A placeholder is free text ("{a,b} or name registered in
// --tool-parser-plugin"), so its words say nothing of that.
func valueCount(d engine.FlagDef) int {
	if d.Value == "" {
		return 0
	}
	return max(1, d.Count)
}

// placeholder is the value's placeholder for messages: vLLM lists 45 parsers in one.
func placeholder(d engine.FlagDef) string {
	const most = 60
	if len(d.Value) <= most {
		return d.Value
	}
	head := d.Value[:most]
	if i := strings.LastIndexAny(head, ", "); i > 0 {
		head = head[:i]
	}
	return strings.ToValidUTF8(head, "") + ",…"
}

// hyphens writes a long name the way help lists it. What follows a dot is a key of JSON, which may well have underscores.
func hyphens(name string) string {
	if !strings.HasPrefix(name, "--") {
		return name
	}
	head, keys, dot := strings.Cut(name, ".")
	head = strings.ReplaceAll(head, "_", "-")
	if dot {
		return head + "." + keys
	}
	return head
}

var (
	helpName = regexp.MustCompile(`^--?[A-Za-z](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	llamaTwo = regexp.MustCompile(`^[A-Z]+ [A-Z]+$`)
	helpEnv  = regexp.MustCompile(`\(env: ([A-Za-z_][A-Za-z0-9_]*)\)`)
)

// parseLlamaHelp reads the help of llama-server: lines of comma-separated spellings and a placeholder that begin at the
// left edge, followed by an indented description. Flags that are listed only to say that they were removed are left out.
func parseLlamaHelp(output string) engine.FlagSet {
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
