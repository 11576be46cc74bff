package provisioner

import (
	"regexp"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// userFlag is one flag of the user's list with its values.
type userFlag struct {
	index  int      // of the flag's element in the list
	name   string   // as written; the whole element when it was not understood
	full   string   // the name that the engine lists for it
	values []string // as written
	sep    string   // what is between the name and a value in one element
	joined bool     // the value stands in the flag's own element
	known  bool     // name is a flag of some build
	stray  bool     // a value that belongs to no flag
}

// canonicalName is the flag's name as the rest of the package expects it.
func (d *flagDialect) canonicalName(f userFlag) string {
	if !f.known {
		return f.name
	}
	if name, ok := d.canonical[f.full]; ok {
		return name
	}
	return f.full
}

// args are the elements of a flag under its name of now. An engine that understands "--flag=value" may have no other way
// to say a value with a "-" in front, so it is left as it was.
func (d *flagDialect) args(f userFlag, name string, values []string) []string {
	if f.joined && d.joined && len(values) == 1 {
		return []string{name + f.sep + values[0]}
	}
	return append([]string{name}, values...)
}

// Numbers such as "-1" and "-.5" are no flags.
var flagShape = regexp.MustCompile(`^--?[A-Za-z]`)

// split groups a list into flags and their values. set is the executable's; what it does not list is looked up among
// the flags of other builds, so that one unknown flag does not shift all that follows.
func (d *flagDialect) split(set engine.FlagSet, flags []string) []userFlag {
	var out []userFlag
	for i := 0; i < len(flags); i++ {
		f := userFlag{index: i, name: flags[i]}
		if !flagShape.MatchString(f.name) {
			f.stray = true
			out = append(out, f)
			continue
		}
		if d.inOne(set, &f) {
			out = append(out, f)
			continue
		}
		def, full, known := d.lookUp(set, f.name)
		f.known, f.full = known, full
		rest := flags[i+1:]
		n := min(valueCount(def), len(rest))
		if next := slices.IndexFunc(rest, flagShape.MatchString); !known || def.Many || def.Optional || d.bridged[full] != "" {
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
		f.values = rest[:n:n]
		i += n
		out = append(out, f)
	}
	return out
}

// inOne takes an element apart that holds a flag and its value: "--flag=value", and "-p8080" where the engine
// understands the first. It reports whether nothing of what follows can belong to the flag.
func (d *flagDialect) inOne(set engine.FlagSet, f *userFlag) bool {
	if name, value, ok := strings.Cut(f.name, "="); ok {
		def, full, known := d.lookUp(set, name)
		n := valueCount(def)
		bare := d.bridged[full] != "" && flagShape.MatchString(value)
		if known && (n == 1 || d.joined && n > 0) && !bare {
			f.name, f.full, f.values, f.sep, f.joined, f.known = name, full, []string{value}, "=", true, true
		}
		return true
	}
	if !d.joined || strings.HasPrefix(f.name, "--") || len(f.name) < 3 {
		return false
	}
	if _, _, known := d.lookUp(set, f.name); known {
		return false
	}
	def, full, known := d.lookUp(set, f.name[:2])
	if !known || valueCount(def) == 0 {
		return false
	}
	f.name, f.full, f.values, f.joined, f.known = f.name[:2], full, []string{f.name[2:]}, true, true
	return true
}

// lookUp finds a flag of any build. One that was renamed or removed has no more than its number of values.
func (d *flagDialect) lookUp(set engine.FlagSet, name string) (def engine.FlagDef, full string, known bool) {
	if def, full, _, ok := d.anywhere(set, name); ok {
		return def, full, true
	}
	if change, ok := d.change(name); ok {
		return change.def(), hyphens(name), true
	}
	return engine.FlagDef{}, name, false
}
