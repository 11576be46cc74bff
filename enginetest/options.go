package enginetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options is the part of a command line that the fake acts on.
type options struct {
	version, help, devices bool
	model, alias           string
	checksName             bool // requests for a model of another name are refused
	host, port             string
	slots                  int
	metrics                bool
	slotsRoute             bool
	sleepIdle              time.Duration // after which llama-server sleeps; 0 for never
	keys                   []string
	values                 map[string]string // of other flags, by their long names
}

// flagDef is one entry of a help text.
type flagDef struct {
	names []string
	value bool // takes a value
	many  bool // takes all that follows up to the next flag
	env   string
}

// name is the flag's first long name.
func (d *flagDef) name() string {
	i := slices.IndexFunc(d.names, func(s string) bool { return strings.HasPrefix(s, "--") })
	return d.names[max(i, 0)]
}

// parsePythonHelp reads the entries of a help text that Python's argparse wrote.
func parsePythonHelp(text string) []*flagDef {
	var defs []*flagDef
	for line := range strings.Lines(text) {
		entry := strings.TrimPrefix(line, "  ")
		if !strings.HasPrefix(entry, "-") {
			continue
		}
		entry, _, _ = strings.Cut(strings.TrimSpace(entry), "  ") // the description is set off by two spaces
		def := &flagDef{}
		for item := range strings.SplitSeq(entry, ", ") {
			name, value, hasValue := strings.Cut(item, " ")
			if !strings.HasPrefix(name, "-") {
				continue // a choice of values
			}
			def.names = append(def.names, name)
			def.value = def.value || hasValue
			def.many = def.many || strings.Contains(value, "...")
		}
		defs = append(defs, def)
	}
	return defs
}

// parseClapHelp reads the entries of a help text that Rust's clap wrote.
func parseClapHelp(text string) []*flagDef {
	var defs []*flagDef
	for line := range strings.Lines(text) {
		entry := strings.TrimSpace(line)
		if _, env, ok := strings.Cut(entry, "[env: "); ok && len(defs) > 0 {
			defs[len(defs)-1].env, _, _ = strings.Cut(env, "=")
		}
		// Descriptions are indented by ten columns, entries by six at most.
		if !strings.HasPrefix(entry, "-") || strings.HasPrefix(line, "          ") {
			continue
		}
		def := &flagDef{}
		for item := range strings.SplitSeq(entry, ", ") {
			name, _, value := strings.Cut(item, " ")
			def.names, def.value = append(def.names, name), def.value || value
		}
		defs = append(defs, def)
	}
	return defs
}

// commandLine is a command line that was read by a help text.
type commandLine struct {
	values     map[string]string // by the flags' long names; "true" for a switch, and "false" for its --no- form
	positional []string
	unknown    []string
	incomplete string // a flag without its value
}

// readFlags reads args. Flags that defs lack are kept as unknown.
func readFlags(args []string, defs []*flagDef) commandLine {
	byName := map[string]*flagDef{}
	for _, def := range defs {
		for _, name := range def.names {
			byName[name] = def
		}
	}
	line := commandLine{values: map[string]string{}}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if strings.HasPrefix(name, "--") {
			name = strings.ReplaceAll(name, "_", "-")
		}
		def := byName[name]
		switch {
		case !strings.HasPrefix(name, "-"):
			line.positional = append(line.positional, args[i])
		case def == nil:
			line.unknown = append(line.unknown, args[i])
		case !def.value:
			line.values[def.name()] = cmp.Or(value, map[bool]string{true: "false", false: "true"}[isNegative(name, def)])
		case joined:
			line.values[def.name()] = value
		case i+1 == len(args) || strings.HasPrefix(args[i+1], "--"):
			line.incomplete = name
		default:
			i++
			line.values[def.name()] = args[i]
			for def.many && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
				line.values[def.name()] += " " + args[i]
			}
		}
	}
	return line
}

func isNegative(name string, def *flagDef) bool {
	return strings.HasPrefix(name, "--no-") && name != def.name()
}

// pythonRefusal is what argparse says of a command line that it does not take, with status 2.
func pythonRefusal(usage, program string, line commandLine, b Behavior, positional int) error {
	why := ""
	unknown := line.unknown
	if len(line.positional) > positional {
		unknown = slices.Concat(unknown, line.positional[positional:])
	}
	switch {
	case line.incomplete != "":
		why = "argument " + line.incomplete + ": expected one argument"
	case b.StrictFlags && len(unknown) > 0:
		why = "unrecognized arguments: " + strings.Join(unknown, " ")
	default:
		return nil
	}
	return &refusal{2, fmt.Sprintf("usage: %s\n%s: error: %s", usage, program, why)}
}

// take sets an option from a flag where that was given.
func (o *options) take(to *string, flag string) {
	if value, ok := o.values[flag]; ok {
		*to = value
	}
}

// number is the value of a flag that is a number.
func (o *options) number(flag string, other int) int {
	if n, err := strconv.Atoi(o.values[flag]); err == nil {
		return n
	}
	return other
}
