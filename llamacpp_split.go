package provisioner

import (
	"regexp"
	"slices"
	"strings"
)

// userFlag is one flag of the user's list with its values.
type userFlag struct {
	index  int      // of the flag's element in the list
	name   string   // as written; the whole element when it was not understood
	values []string // as written
	joined bool     // the value was written with "="
	known  bool     // name is a flag of some build
	stray  bool     // a value that belongs to no flag
}

// canonical is the flag's name as the rest of the package expects it.
func (f userFlag) canonical() string {
	if !f.known {
		return f.name
	}
	if name, ok := llamaCanonical[hyphens(f.name)]; ok {
		return name
	}
	return hyphens(f.name)
}

// Numbers such as "-1" and "-.5" are no flags.
var flagShape = regexp.MustCompile(`^--?[A-Za-z]`)

// splitLlamaFlags groups a list into flags and their values. set is the executable's; what it does not list is looked up
// among the flags of other builds, so that one unknown flag does not shift all that follows.
func splitLlamaFlags(set FlagSet, flags []string) []userFlag {
	var out []userFlag
	for i := 0; i < len(flags); i++ {
		f := userFlag{index: i, name: flags[i]}
		if !flagShape.MatchString(f.name) {
			f.stray = true
			out = append(out, f)
			continue
		}
		rest := flags[i+1:]
		if name, value, ok := strings.Cut(f.name, "="); ok {
			n, known := llamaValues(set, name)
			if known && n == 1 && (!isFlashAttn(name) || !flagShape.MatchString(value)) {
				f.name, f.values, f.joined, f.known = name, []string{value}, true, true
			}
			out = append(out, f)
			continue
		}
		n, known := llamaValues(set, f.name)
		f.known = known
		switch {
		case !known || isFlashAttn(f.name):
			// Up to the next flag: how many values an unknown flag takes cannot be told, and --flash-attn took none
			// before b6325.
			n = slices.IndexFunc(rest, flagShape.MatchString)
			if n < 0 {
				n = len(rest)
			}
			if known {
				n = min(n, 1)
			}
		default:
			n = min(n, len(rest))
		}
		f.values = rest[:n:n]
		i += n
		out = append(out, f)
	}
	return out
}

// llamaValues is the number of values that a flag takes.
func llamaValues(set FlagSet, name string) (n int, known bool) {
	for _, s := range []FlagSet{set, builtinLlamaFlags()} {
		if def, _, ok := s.find(name); ok {
			return def.values(), true
		}
	}
	if change, ok := llamaChangeOf(name); ok {
		return change.values, true
	}
	return 0, false
}

func llamaChangeOf(name string) (llamaChange, bool) {
	i := slices.IndexFunc(llamaChanges, func(c llamaChange) bool { return slices.Contains(c.old, hyphens(name)) })
	if i < 0 {
		return llamaChange{}, false
	}
	return llamaChanges[i], true
}

func isFlashAttn(name string) bool { return name == "-fa" || hyphens(name) == "--flash-attn" }
