package enginetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// parseHelp reads the entries of a help text in llama-server's format.
func parseHelp(text string) []*flagDef {
	var defs []*flagDef
	for line := range strings.Lines(text) {
		if _, env, ok := strings.Cut(line, "(env: "); ok && len(defs) > 0 {
			defs[len(defs)-1].env = strings.TrimRight(env, ")\n")
		}
		if !strings.HasPrefix(line, "-") || strings.HasPrefix(line, "---") {
			continue
		}
		def := &flagDef{}
		fields := strings.Fields(line)
		for more := true; more && len(fields) > 0; fields = fields[1:] {
			def.names = append(def.names, strings.TrimSuffix(fields[0], ","))
			more = strings.HasSuffix(fields[0], ",")
		}
		// The description is set off by two spaces at least, a value by one.
		last := def.names[len(def.names)-1]
		_, rest, _ := strings.Cut(line, last)
		def.value = len(rest) > 1 && rest[0] == ' ' && rest[1] != ' '
		defs = append(defs, def)
	}
	return defs
}

// parse reads args and the environment's twins of flags. Unknown flags pass unless b is strict.
func (llamacpp) parse(args []string, lookup func(string) (string, bool), b Behavior) (options, error) {
	o := options{host: "127.0.0.1", port: "9931", slots: 4, slotsRoute: true}
	byName := map[string]*flagDef{}
	for _, def := range parseHelp(llamaHelp) {
		for _, name := range def.names {
			byName[name] = def
		}
		if value, ok := lookup(def.env); ok && def.env != "" {
			if err := o.set(def.names[len(def.names)-1], value); err != nil {
				return o, fmt.Errorf("error while handling environment variable %q: %w", def.env, err)
			}
		}
	}
	for i := 0; i < len(args); i++ {
		name := args[i]
		if strings.HasPrefix(name, "--") {
			name = strings.ReplaceAll(name, "_", "-")
		}
		def := byName[name]
		switch {
		case def == nil && b.StrictFlags:
			return o, fmt.Errorf("error: invalid argument: %s", args[i])
		case def == nil:
		case !def.value:
			_ = o.set(name, "1")
		case i+1 == len(args):
			return o, fmt.Errorf("error while handling argument %q: expected value for argument", args[i])
		default:
			i++
			if err := o.set(name, args[i]); err != nil {
				return o, fmt.Errorf("error while handling argument %q: %w", name, err)
			}
		}
	}
	return o, o.finish(b)
}

// set takes one flag over. Those that change nothing in a fake are let through.
func (o *options) set(name, value string) error {
	var err error
	switch name {
	case "-h", "--help", "--usage":
		o.help = true
	case "--version":
		o.version = true
	case "--list-devices":
		o.devices = true
	case "-m", "--model":
		o.model = value
	case "-a", "--alias":
		o.alias, _, _ = strings.Cut(value, ",")
	case "--host":
		o.host, _, _ = strings.Cut(value, ",")
	case "--port":
		if _, err = strconv.Atoi(value); err == nil {
			o.port = value
		}
	case "-np", "--parallel":
		if o.slots, err = strconv.Atoi(value); o.slots < 1 {
			o.slots = 4 // "auto"
		}
	case "--metrics":
		o.metrics = value != "0"
	case "--sleep-idle-seconds":
		var seconds int
		seconds, err = strconv.Atoi(value)
		o.sleepIdle = time.Duration(seconds) * time.Second
	case "--no-slots":
		o.slotsRoute = false
	case "--api-key":
		o.keys = append(o.keys, strings.Split(value, ",")...)
	case "--api-key-file":
		var data []byte
		if data, err = os.ReadFile(value); err != nil {
			return fmt.Errorf("error: failed to open file '%s'", value)
		}
		o.keys = append(o.keys, strings.Fields(string(data))...)
	}
	if err != nil {
		return fmt.Errorf("stoi")
	}
	return nil
}

// finish checks the whole and fills in what follows from it.
func (o *options) finish(b Behavior) error {
	if o.alias == "" && o.model != "" {
		o.alias = filepath.Base(o.model)
	}
	if b.CheckModel && o.model != "" && !o.help && !o.version && !o.devices {
		if _, err := os.Stat(o.model); err != nil {
			return fmt.Errorf("gguf_init_from_file: failed to open GGUF file '%[1]s' (No such file or directory)\n"+
				"srv    load_model: failed to load model, '%[1]s'\nsrv    main: exiting due to model loading error", o.model)
		}
	}
	return nil
}
