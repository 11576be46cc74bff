// Package flagline is for engines whose programs have long command lines: it takes the user's flags apart, checks each one
// against what the executable's own help lists, writes old names as the build at hand has them, adds defaults where the user
// said nothing, and reports all that is wrong with the key of each.
//
// It owns how flags are read and merged, and knows no engine: what differs from one to the other is data, a [Dialect]. An engine
// makes a [Line] of it in Launch, asks that what the user said, and puts its parts into the command line:
//
//	line := dialect.Merge(request, host)
//	if err := line.Err(); err != nil {
//		return engine.LaunchSpec{}, err
//	}
//	line.AddDefaults()
//	spec.Flags = slices.Concat(model, line.Address("--host"), line.Added, line.User)
//
// Everybody may import it. It touches no file, network, process or environment, and nothing in it changes once it is made, but
// for a Line, which belongs to one call.
package flagline

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// Dialect is how one engine writes its command line, and what is known of its flags. It is data, with a hook or two
// where an engine's values have rules of their own: there is one way to merge flags, for all engines.
type Dialect struct {
	// Program is the executable's name, for messages.
	Program string
	// Commands are how the engine is started, for those who read command lines of people.
	Commands []Command
	// Positional says that the model may stand on the command line without a flag.
	Positional bool
	// Hidden are flags that the executable takes though its help does not list them.
	Hidden engine.FlagSet
	// Builtin is the newest flags known, for when the executable's help is not at hand; nil when
	// none are known. Newest is their build.
	Builtin func() engine.FlagSet
	Newest  int
	// Pinned is the version that a request asks for; nil when none can be told.
	Pinned func(r engine.Request) Pin
	// Canonical maps spellings to the one that Defaults and the engine use.
	Canonical map[string]string
	// Owned are flags that a user may not give.
	Owned []Owned
	// Alone are owned flags that may be given after all with a value that says what is so anyway, such as one node.
	Alone map[string]func(value string) bool
	// Repeatable are subjects that add up when they are repeated; of all others the engine takes the last, or refuses both.
	Repeatable []string
	// Changes are flags that were renamed or removed.
	Changes []Change
	// Deprecated are flags that are still taken, by name, and what to write instead.
	Deprecated map[string]string
	// United are what two flags that became one flag with a value say together: "none mmap+mlock" is "mlock".
	United map[string]string
	// Defaults are what a user most often wants of one replica in a pool.
	Defaults []Default
	// Bridged are flags that take a value on some versions only, and what that is, for messages.
	Bridged map[string]string

	// Joined says that the engine understands "--flag=value", and takes no value with a "-" in front another way.
	Joined bool
	// Prefixes says that the engine understands the beginning of a long name where only one flag begins like that.
	Prefixes bool
	// Dotted says that "--flag.key value" sets one key of the JSON that is the flag's value.
	Dotted bool

	// OwnedEnv are variables that a user may not set for this engine, and what to do instead.
	OwnedEnv map[string]string
	// EnvPrefix begins the names of variables that are the twins of flags; one that the engine does not know is an error.
	EnvPrefix string

	// Bridge translates the values of a flag in bridged; nil when there is none.
	Bridge func(m *Line, word string, def engine.FlagDef, values []string) (now []string, note string, err error)
	// Value checks and translates the values of a flag by what is known of the machine; nil when there is nothing to do.
	Value func(m *Line, word string, def engine.FlagDef, values []string) (now []string, note string, err error)
}

// Command starts an engine: the name of a program, or of a module of Python, and the subcommand that serves, "" for none.
type Command struct{ Name, Subcommand string }

// Owned is flags that a user may not give, and what to write instead.
type Owned struct {
	Names  []string
	Advice string
}

// Change is a flag that was renamed or removed.
type Change struct {
	Old    []string               // its spellings
	Values int                    // how many values it took
	Many   bool                   // more values could follow
	To     []string               // what says the same now; nil when nothing does
	Since  int                    // the first build without it; 1 when no build in use has it, 0 when only the help can tell
	Advice string                 // what to do where to is nil
	Env    string                 // the variable that said the same
	Suits  func(m *Line) []string // to, where that depends on other flags; nil means that it does not
}

// Default is flags for a subject on which the user says nothing.
type Default struct {
	Subjects []string   // a word of the user on any of these is enough
	Args     [][]string // the first whose flag the executable knows is taken
	Note     string
	When     func(m *Line) bool // nil means always
}

// Advice for flags that several engines have and no user may give.
const (
	AdviceModel = `it is set from "model"; write "model: {id: …}"`
	AdviceHost  = `it is set from "host"; write "host: 127.0.0.1"`
	AdvicePort  = `it is set from "port"; write "port: 8081"`
	AdviceKey   = "a key on the command line can be read by every user of this machine; " +
		`write "api_key: {from_env: NAME}" or "api_key: {from_file: PATH}"`
	AdviceKeyEnv = `write the key as "api_key: {from_env: NAME}" or "api_key: {from_file: PATH}"`
	AdviceToken  = "a token on the command line can be read by every user of this machine; " +
		`write "env: {HF_TOKEN: {from_env: NAME}}"`
	AdviceTLS     = "the provisioner asks over plain HTTP; put a TLS proxy in front of the engine"
	AdviceExit    = "the engine would print and exit instead of serving; remove the flag"
	AdviceLog     = "the provisioner keeps the log and reads the causes of failures from it; remove the flag"
	AdviceFile    = `a second file could change what this one says; write its settings under "flags"`
	AdviceDevices = `it is set from "devices"; write "devices: [0]"`
	AdviceOwnPort = "it is chosen for each replica; remove it"
)

// IsAlone reports whether a flag, by its names, asks for nothing but what is so anyway.
func (d *Dialect) IsAlone(names, values []string) bool {
	return len(values) == 1 && slices.ContainsFunc(names, func(n string) bool {
		says := d.Alone[n]
		return says != nil && says(values[0])
	})
}

// Exactly is a value that says what is so anyway.
func Exactly(want string) func(string) bool { return func(value string) bool { return value == want } }

// OnLoopback reports whether an address, with or without a port, is one that other machines cannot reach.
func OnLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// find is Find by the engine's own rules. full is the name as the engine lists it.
func (d *Dialect) find(set engine.FlagSet, name string) (def engine.FlagDef, full string, negated, ok bool) {
	for _, s := range []engine.FlagSet{set, d.Hidden} {
		if def, negated, ok = Find(s, name); ok {
			return def, hyphens(name), negated, true
		}
	}
	if head, keys, dot := strings.Cut(name, "."); dot && d.Dotted && keys != "" {
		def, full, _, ok = d.find(set, head)
		if !ok || def.Value == "" {
			return engine.FlagDef{}, "", false, false
		}
		if i := slices.IndexFunc(def.Names, func(n string) bool { return strings.HasPrefix(n, "--") }); i >= 0 {
			full = def.Names[i] // keys under two names would be two values, of which the second counts
		}
		full += "." + keys
		def.Names, def.Negated = append([]string{full}, def.Names...), nil
		return def, full, false, true
	}
	matches := d.beginningWith(set, name)
	if len(matches) != 1 {
		return engine.FlagDef{}, "", false, false
	}
	def, negated, ok = Find(set, matches[0])
	return def, matches[0], negated, ok
}

// beginningWith are the long names that begin with name, where the engine takes a beginning for the whole.
func (d *Dialect) beginningWith(set engine.FlagSet, name string) []string {
	if !d.Prefixes || !strings.HasPrefix(name, "--") || len(name) < 3 {
		return nil
	}
	return slices.DeleteFunc(spellings(set, true), func(n string) bool { return !strings.HasPrefix(n, hyphens(name)) })
}

// anywhere is find in the executable's flags, and in those of other versions.
func (d *Dialect) anywhere(set engine.FlagSet, name string) (def engine.FlagDef, full string, negated, ok bool) {
	for _, s := range []engine.FlagSet{set, d.builtin()} {
		if def, full, negated, ok = d.find(s, name); ok {
			return def, full, negated, true
		}
	}
	return engine.FlagDef{}, "", false, false
}

// builtin is Builtin, if there is one.
func (d *Dialect) builtin() engine.FlagSet {
	if d.Builtin == nil {
		return engine.FlagSet{}
	}
	return d.Builtin()
}

// FindEnv returns the subject that an environment variable speaks of.
func (d *Dialect) FindEnv(set engine.FlagSet, name string) (engine.FlagDef, bool) {
	for _, def := range set.Defs {
		// llama-server accepts LLAMA_ARG_NO_X for each LLAMA_ARG_X that has a negation.
		no := d.EnvPrefix != "" && len(def.Negated) > 0 && strings.Replace(def.Env, d.EnvPrefix, d.EnvPrefix+"NO_", 1) == name
		if def.Env != "" && (def.Env == name || no) {
			return def, true
		}
	}
	return engine.FlagDef{}, false
}

// Advice says what to write instead of a flag that the user may not give; "" when it is the user's.
func (d *Dialect) Advice(names ...string) string {
	for _, o := range d.Owned {
		for _, n := range names {
			if slices.Contains(o.Names, n) {
				return o.Advice
			}
		}
	}
	return ""
}

// Change returns what became of a flag; false when it is none that was renamed or removed.
func (d *Dialect) Change(name string) (Change, bool) {
	i := slices.IndexFunc(d.Changes, func(c Change) bool { return slices.Contains(c.Old, hyphens(name)) })
	if i < 0 {
		return Change{}, false
	}
	return d.Changes[i], true
}

// ChangeOfEnv is the flag that a variable of older builds said the same as. A switch that the variable turns off is none,
// unless the other word for it has a flag.
func (d *Dialect) ChangeOfEnv(name, value string) (Change, bool) {
	i := slices.IndexFunc(d.Changes, func(c Change) bool { return c.Env != "" && c.Env == name })
	switch {
	case i < 0:
		return Change{}, false
	case d.Changes[i].Values > 0 || IsOn(value):
		return d.Changes[i], true
	}
	return d.Change("--no-" + strings.TrimPrefix(d.Changes[i].Long(), "--"))
}

// Long is the first of its spellings that is a word.
func (c Change) Long() string {
	return c.Old[max(0, slices.IndexFunc(c.Old, func(n string) bool { return strings.HasPrefix(n, "--") }))]
}

// successor is what says now what a changed flag said; nil where nothing does.
func (m *Line) successor(c Change) []string {
	if c.Suits != nil {
		return c.Suits(m)
	}
	return c.To
}

// Def is the flag as it was.
func (c Change) Def() engine.FlagDef {
	def := engine.FlagDef{Names: c.Old, Many: c.Many}
	if c.Values > 0 {
		def.Value, def.Count = "VALUE", c.Values
	}
	return def
}
