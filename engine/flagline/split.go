package flagline

import (
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Word is one flag of the user's list with its values.
type Word struct {
	Index  int      // of the flag's element in the list
	Name   string   // as written; the whole element when it was not understood
	Full   string   // the name that the engine lists for it
	Values []string // as written
	Sep    string   // what is between the name and a value in one element
	Joined bool     // the value stands in the flag's own element
	Known  bool     // name is a flag of some build
	Stray  bool     // a value that belongs to no flag
}

// canonicalName is the flag's name as the rest of the package expects it.
func (d *Dialect) canonicalName(f Word) string {
	if !f.Known {
		return f.Name
	}
	if name, ok := d.Canonical[f.Full]; ok {
		return name
	}
	return f.Full
}

// Normalize writes flags the one way that the rest of this module expects, without a look at an executable. It is pure and
// idempotent, and it keeps every element that it has no reason to touch.
func (d *Dialect) Normalize(flags []string) []string {
	out := make([]string, 0, len(flags))
	for _, f := range d.Split(engine.FlagSet{}, flags) {
		out = append(out, d.args(f, d.canonicalName(f), f.Values)...)
	}
	return out
}

// args are the elements of a flag under its name of now. An engine that understands "--flag=value" may have no other way
// to say a value with a "-" in front, so it is left as it was.
func (d *Dialect) args(f Word, name string, values []string) []string {
	if f.Joined && d.Joined && len(values) == 1 {
		return []string{name + f.Sep + values[0]}
	}
	return append([]string{name}, values...)
}

// Numbers such as "-1" and "-.5" are no flags.
var flagShape = regexp.MustCompile(`^--?[A-Za-z]`)

// Split groups a list into flags and their values. set is the executable's; what it does not list is looked up among
// the flags of other builds, so that one unknown flag does not shift all that follows.
func (d *Dialect) Split(set engine.FlagSet, flags []string) []Word {
	var out []Word
	for i := 0; i < len(flags); i++ {
		f := Word{Index: i, Name: flags[i]}
		if !flagShape.MatchString(f.Name) {
			f.Stray = true
			out = append(out, f)
			continue
		}
		if d.inOne(set, &f) {
			out = append(out, f)
			continue
		}
		def, full, known := d.LookUp(set, f.Name)
		f.Known, f.Full = known, full
		rest := flags[i+1:]
		n := min(valueCount(def), len(rest))
		if next := slices.IndexFunc(rest, flagShape.MatchString); !known || def.Many || def.Optional || d.Bridged[full] != "" {
			// Up to the next flag: how many values an unknown flag takes cannot be told, and one that is bridged takes none
			// on some builds.
			if next < 0 {
				next = len(rest)
			}
			if known && !def.Many {
				next = min(next, 1)
			}
			n = next
		}
		f.Values = rest[:n:n]
		i += n
		out = append(out, f)
	}
	return out
}

// inOne takes an element apart that holds a flag and its value: "--flag=value", and "-p8080" where the engine
// understands the first. It reports whether nothing of what follows can belong to the flag.
func (d *Dialect) inOne(set engine.FlagSet, f *Word) bool {
	if name, value, ok := strings.Cut(f.Name, "="); ok {
		def, full, known := d.LookUp(set, name)
		n := valueCount(def)
		bare := d.Bridged[full] != "" && flagShape.MatchString(value)
		if known && (n == 1 || d.Joined && n > 0) && !bare {
			f.Name, f.Full, f.Values, f.Sep, f.Joined, f.Known = name, full, []string{value}, "=", true, true
		}
		return true
	}
	if !d.Joined || strings.HasPrefix(f.Name, "--") || len(f.Name) < 3 {
		return false
	}
	if _, _, known := d.LookUp(set, f.Name); known {
		return false
	}
	def, full, known := d.LookUp(set, f.Name[:2])
	if !known || valueCount(def) == 0 {
		return false
	}
	f.Name, f.Full, f.Values, f.Joined, f.Known = f.Name[:2], full, []string{f.Name[2:]}, true, true
	return true
}

// LookUp finds a flag of any build. One that was renamed or removed has no more than its number of values.
func (d *Dialect) LookUp(set engine.FlagSet, name string) (def engine.FlagDef, full string, known bool) {
	if def, full, _, ok := d.anywhere(set, name); ok {
		return def, full, true
	}
	if change, ok := d.Change(name); ok {
		return change.Def(), hyphens(name), true
	}
	return engine.FlagDef{}, name, false
}
