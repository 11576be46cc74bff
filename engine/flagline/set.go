package flagline

import (
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Find returns the subject that name is a spelling of, and whether it is the negated one. Underscores in a long name
// count as hyphens, as they do for most engines.
func Find(s engine.FlagSet, name string) (def engine.FlagDef, negated, ok bool) {
	name = hyphens(name)
	same := func(n string) bool { return len(n) == len(name) && hyphens(n) == name }
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

// Has reports whether name is a spelling that the executable knows.
func Has(s engine.FlagSet, name string) bool {
	_, _, ok := Find(s, name)
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

// Subject is a name for what the flag is about: its first long spelling without hyphens and without "no-", so that
// builds that list a flag and its negation apart agree with those that list them together.
func Subject(d engine.FlagDef) string {
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

// Denies reports whether a flag can say no alone, such as "--no-mmap" in builds that have no "--mmap".
func Denies(def engine.FlagDef) bool {
	return !slices.ContainsFunc(def.Names, func(name string) bool {
		return strings.HasPrefix(name, "--") && !strings.HasPrefix(name, "--no-")
	})
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
