// Package keys says what values of a configuration can be, and in which words a wrong one is told.
//
// Whoever checks keys calls it: the configuration, the engine "custom", and what imports command lines. It is pure: it knows no
// configuration, and looks at no file and no environment. A text that it returns follows the name of the key.
package keys

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
)

// VariablePattern is what the name of an environment variable looks like.
const VariablePattern = `^[A-Za-z_][A-Za-z0-9_]*$`

var (
	variable = lazyregexp.New(VariablePattern)
	plain    = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_-]*$`)
)

// IsVariable reports whether text can be the name of an environment variable.
func IsVariable(text string) bool { return variable.MatchString(text) }

// Join gives the path of a key inside the value at parent.
func Join(parent, key string) string {
	switch {
	case !plain.MatchString(key):
		return parent + "[" + Quoted(key) + "]"
	case parent == "":
		return key
	}
	return parent + "." + key
}

// Quoted is a text in quotes, short enough to be read when it is a whole page.
func Quoted(s string) string { return fmt.Sprintf("%q", Short(s)) }

// Short is the beginning of a long text.
func Short(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// BadExecutable tells what is wrong with the path or name of a program, or "".
func BadExecutable(path string) string {
	switch {
	case path == "":
		return "is empty; write the path or the name of a program"
	case strings.ContainsRune(path, 0):
		return "holds a NUL character; remove it"
	case strings.HasPrefix(path, "~"):
		return fmt.Sprintf("is %q, and ~ is not expanded; write the whole path", path)
	case strings.HasSuffix(path, "/"):
		return fmt.Sprintf("is %q, a folder; write the path of the executable in it", path)
	}
	return ""
}

// owned are variables that a launch sets, or that other keys decide, with what to do instead.
var owned = map[string]string{
	"CUDA_VISIBLE_DEVICES":         `write "devices" or "gpu" instead`,
	"CUDA_DEVICE_ORDER":            "indexes always count in PCI bus order; remove it",
	"TMPDIR":                       "every launch has a folder of its own; remove it",
	"XDG_CONFIG_HOME":              "every engine has a folder of its own; remove it",
	"ENGINE_PROVISIONER_LAUNCH_ID": "it marks the processes of a launch; remove it",
	"LD_PRELOAD":                   "code loaded into an engine is not supported; remove it",
}

// OwnedVariable tells what to do instead of setting a variable that a launch sets, or that other keys decide; false for any
// other.
func OwnedVariable(name string) (advice string, is bool) {
	advice, is = owned[name]
	return advice, is
}

// OwnedVariables are the names of all of them, sorted.
func OwnedVariables() []string { return slices.Sorted(maps.Keys(owned)) }

// BadVariable tells why a variable may not be set, or "".
func BadVariable(name string) string {
	if !IsVariable(name) {
		return "is no name of a variable; use letters, digits and _, with no digit first"
	}
	if advice, is := OwnedVariable(name); is {
		return "may not be set here; " + advice
	}
	return ""
}

// maxDuration is the longest that a key takes.
const maxDuration = 24 * time.Hour

// BadDuration tells what is wrong with a duration, or "".
func BadDuration(d time.Duration) string {
	if d <= 0 || d > maxDuration {
		return fmt.Sprintf("must be more than 0 and at most 24h, is %s; leave the key out for the default", d)
	}
	return ""
}
