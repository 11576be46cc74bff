package provisioner

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
)

// flagDialect is how one engine writes its command line, and what is known of its flags. It is data, with a hook or two
// where an engine's values have rules of their own: there is one way to merge flags, for all engines.
type flagDialect struct {
	// program is the executable's name, for messages.
	program string
	// hidden are flags that the executable takes though its help does not list them.
	hidden engine.FlagSet
	// builtin is the newest flags known to this package, for when the executable's help is not at hand, and newest is
	// their build.
	builtin func() engine.FlagSet
	newest  int
	// pinned is the version that a request asks for.
	pinned func(r engine.Request) pin
	// canonical maps spellings to the one that defaults and the rest of this package use.
	canonical map[string]string
	// owned are flags that a user may not give.
	owned []ownedFlag
	// alone are owned flags that may be given after all with a value that says what is so anyway, such as one node.
	alone map[string]func(value string) bool
	// repeatable are subjects that add up when they are repeated; of all others the engine takes the last, or refuses both.
	repeatable []string
	// changes are flags that were renamed or removed.
	changes []flagChange
	// deprecated are flags that are still taken, by name, and what to write instead.
	deprecated map[string]string
	// united are what two flags that became one flag with a value say together: "none mmap+mlock" is "mlock".
	united map[string]string
	// defaults are what a user most often wants of one replica in a pool.
	defaults []flagDefault
	// bridged are flags that take a value on some versions only, and what that is, for messages.
	bridged map[string]string

	// joined says that the engine understands "--flag=value", and takes no value with a "-" in front another way.
	joined bool
	// prefixes says that the engine understands the beginning of a long name where only one flag begins like that.
	prefixes bool
	// dotted says that "--flag.key value" sets one key of the JSON that is the flag's value.
	dotted bool

	// ownedEnv are variables that a user may not set for this engine, and what to do instead.
	ownedEnv map[string]string
	// envPrefix begins the names of variables that are the twins of flags; one that the engine does not know is an error.
	envPrefix string

	// bridge translates the values of a flag in bridged; nil when there is none.
	bridge func(m *flagMerge, word string, def engine.FlagDef, values []string) (now []string, note string, err error)
	// value checks and translates the values of a flag by what is known of the machine; nil when there is nothing to do.
	value func(m *flagMerge, word string, def engine.FlagDef, values []string) (now []string, note string, err error)
}

// ownedFlag is flags that a user may not give, and what to write instead.
type ownedFlag struct {
	names  []string
	advice string
}

// flagChange is a flag that was renamed or removed.
type flagChange struct {
	old    []string                    // its spellings
	values int                         // how many values it took
	many   bool                        // more values could follow
	to     []string                    // what says the same now; nil when nothing does
	since  int                         // the first build without it; 1 when no build in use has it, 0 when only the help can tell
	advice string                      // what to do where to is nil
	env    string                      // the variable that said the same
	suits  func(m *flagMerge) []string // to, where that depends on other flags; nil means that it does not
}

// flagDefault is flags for a subject on which the user says nothing.
type flagDefault struct {
	subjects []string   // a word of the user on any of these is enough
	args     [][]string // the first whose flag the executable knows is taken
	note     string
	when     func(m *flagMerge) bool // nil means always
}

const (
	adviceModel = `it is set from "model"; write "model: {id: …}"`
	adviceHost  = `it is set from "host"; write "host: 127.0.0.1"`
	advicePort  = `it is set from "port"; write "port: 8081"`
	adviceKey   = "a key on the command line can be read by every user of this machine; " +
		`write "api_key: {from_env: NAME}" or "api_key: {from_file: PATH}"`
	adviceKeyEnv = `write the key as "api_key: {from_env: NAME}" or "api_key: {from_file: PATH}"`
	adviceToken  = "a token on the command line can be read by every user of this machine; " +
		`write "env: {HF_TOKEN: {from_env: NAME}}"`
	adviceTLS     = "the provisioner asks over plain HTTP; put a TLS proxy in front of the engine"
	adviceExit    = "the engine would print and exit instead of serving; remove the flag"
	adviceLog     = "the provisioner keeps the log and reads the causes of failures from it; remove the flag"
	adviceFile    = `a second file could change what this one says; write its settings under "flags"`
	adviceDevices = `it is set from "devices"; write "devices: [0]"`
	adviceOwnPort = "it is chosen for each replica; remove it"
)

// dialects are those of the built-in engines, by name.
func dialects() map[string]*flagDialect {
	return map[string]*flagDialect{
		llamaCPP{}.Name(): &llamaDialect, vLLM{}.Name(): &vllmDialect, sgLang{}.Name(): &sglangDialect, tgi{}.Name(): &tgiDialect,
	}
}

// isAlone reports whether a flag, by its names, asks for nothing but what is so anyway.
func (d *flagDialect) isAlone(names, values []string) bool {
	return len(values) == 1 && slices.ContainsFunc(names, func(n string) bool {
		says := d.alone[n]
		return says != nil && says(values[0])
	})
}

// exactly is a value that says what is so anyway.
func exactly(want string) func(string) bool { return func(value string) bool { return value == want } }

// onLoopback reports whether an address, with or without a port, is one that other machines cannot reach.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// find is findFlag by the engine's own rules. full is the name as the engine lists it.
func (d *flagDialect) find(set engine.FlagSet, name string) (def engine.FlagDef, full string, negated, ok bool) {
	for _, s := range []engine.FlagSet{set, d.hidden} {
		if def, negated, ok = findFlag(s, name); ok {
			return def, hyphens(name), negated, true
		}
	}
	if head, keys, dot := strings.Cut(name, "."); dot && d.dotted && keys != "" {
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
	def, negated, ok = findFlag(set, matches[0])
	return def, matches[0], negated, ok
}

// beginningWith are the long names that begin with name, where the engine takes a beginning for the whole.
func (d *flagDialect) beginningWith(set engine.FlagSet, name string) []string {
	if !d.prefixes || !strings.HasPrefix(name, "--") || len(name) < 3 {
		return nil
	}
	return slices.DeleteFunc(spellings(set, true), func(n string) bool { return !strings.HasPrefix(n, hyphens(name)) })
}

// anywhere is find in the executable's flags, and in those of other versions.
func (d *flagDialect) anywhere(set engine.FlagSet, name string) (def engine.FlagDef, full string, negated, ok bool) {
	for _, s := range []engine.FlagSet{set, d.builtin()} {
		if def, full, negated, ok = d.find(s, name); ok {
			return def, full, negated, true
		}
	}
	return engine.FlagDef{}, "", false, false
}

// findEnv returns the subject that an environment variable speaks of.
func (d *flagDialect) findEnv(set engine.FlagSet, name string) (engine.FlagDef, bool) {
	for _, def := range set.Defs {
		// llama-server accepts LLAMA_ARG_NO_X for each LLAMA_ARG_X that has a negation.
		no := d.envPrefix != "" && len(def.Negated) > 0 && strings.Replace(def.Env, d.envPrefix, d.envPrefix+"NO_", 1) == name
		if def.Env != "" && (def.Env == name || no) {
			return def, true
		}
	}
	return engine.FlagDef{}, false
}

// advice says what to write instead of a flag that the user may not give; "" when it is the user's.
func (d *flagDialect) advice(names ...string) string {
	for _, o := range d.owned {
		for _, n := range names {
			if slices.Contains(o.names, n) {
				return o.advice
			}
		}
	}
	return ""
}

func (d *flagDialect) change(name string) (flagChange, bool) {
	i := slices.IndexFunc(d.changes, func(c flagChange) bool { return slices.Contains(c.old, hyphens(name)) })
	if i < 0 {
		return flagChange{}, false
	}
	return d.changes[i], true
}

// changeOfEnv is the flag that a variable of older builds said the same as. A switch that the variable turns off is none,
// unless the other word for it has a flag.
func (d *flagDialect) changeOfEnv(name, value string) (flagChange, bool) {
	i := slices.IndexFunc(d.changes, func(c flagChange) bool { return c.env != "" && c.env == name })
	switch {
	case i < 0:
		return flagChange{}, false
	case d.changes[i].values > 0 || truthy(value):
		return d.changes[i], true
	}
	return d.change("--no-" + strings.TrimPrefix(d.changes[i].long(), "--"))
}

// long is the first of its spellings that is a word.
func (c flagChange) long() string {
	return c.old[max(0, slices.IndexFunc(c.old, func(n string) bool { return strings.HasPrefix(n, "--") }))]
}

// successor is what says now what a changed flag said; nil where nothing does.
func (m *flagMerge) successor(c flagChange) []string {
	if c.suits != nil {
		return c.suits(m)
	}
	return c.to
}

// def is the flag as it was.
func (c flagChange) def() engine.FlagDef {
	def := engine.FlagDef{Names: c.old, Many: c.many}
	if c.values > 0 {
		def.Value, def.Count = "VALUE", c.values
	}
	return def
}
