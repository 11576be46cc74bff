package argline

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
)

// programName is the name of a program, or of a module of Python, and the words behind it.
func programName(args []string) (name string, rest []string) {
	name, rest = strings.TrimSuffix(path.Base(filepath.ToSlash(args[0])), ".exe"), args[1:]
	if !pythonName.MatchString(name) {
		return name, rest
	}
	for i, arg := range rest {
		switch {
		case arg == "-m" && i+1 < len(rest):
			return rest[i+1], rest[i+2:]
		case i == 0 && pythonScript.MatchString(arg): // the entry point of a virtual environment
			return path.Base(arg), rest[1:]
		case !strings.HasPrefix(arg, "-"):
			return name, rest
		}
	}
	return name, rest
}

// llamaServerBuild are the names that people give to builds: "llama-server-vulkan", "ik-llama-server".
var llamaServerBuild = lazyregexp.New(`^(\w[\w.]*-)?llama-server([-_.]\w[\w.-]*)?$`)

var pythonScript = lazyregexp.New(`/bin/(vllm|sglang)$`)

var pythonName = lazyregexp.New(`^python[0-9.]*$`)

// takeProgram finds out which engine is started, and takes its arguments.
func (p *reading) takeProgram(args []string) error {
	name, rest := programName(args)
	if strings.HasPrefix(name, "-") {
		return fmt.Errorf("cannot import a command line that begins with the flag %q; write the program before it, such as llama-server", name)
	}
	if llamaServerBuild.MatchString(name) {
		name = "llama-server"
	}
	if by, subcommand := p.startedBy(name); by != "" {
		p.pool.Engine, p.pool.ID = by, by
		if subcommand != "" {
			if len(rest) == 0 || rest[0] != subcommand {
				return fmt.Errorf("cannot import %q: the subcommand %q is missing", args[0], subcommand)
			}
			rest = rest[1:]
		}
		p.pool.Program = args[:len(args)-len(rest)]
		p.takeFlags(rest)
		return nil
	}
	p.pool.Program = args[:1]
	p.pool.Engine, p.pool.ID = custom.Name, cmp.Or(strings.Trim(strings.ToLower(badIDLetter.ReplaceAllString(name, "-")), "-_"), "custom")
	p.set("custom", map[string]any{"command": p.withoutSecrets(args), "health": "/"},
		"not one of the built-in engines: write {host} and {port} where they stand, and the path that answers 200 when it is ready")
	p.decide("port", 8080, "the port that it shall listen on")
	return nil
}

// startedBy is the engine that a program, or a module of Python, starts, and the subcommand with which it does; "" for none.
func (p *reading) startedBy(program string) (engine, subcommand string) {
	for _, e := range p.engines {
		if e.Dialect == nil {
			continue
		}
		for _, c := range e.Dialect.Commands {
			if c.Name == program {
				return e.Name, c.Subcommand
			}
		}
	}
	return "", ""
}

// withoutSecrets is the command line of a server of which nothing is known, without values that look like secrets.
func (p *reading) withoutSecrets(args []string) []string {
	args = slices.Clone(args)
	hide := func(flag string) string {
		p.note(fmt.Sprintf("left out: the value of %s, which may be a secret: give it to the server by a file, or by \"env: {NAME: {from_env: NAME}}\"", visible(flag)))
		return redact.Word
	}
	for i, arg := range args {
		flag, value, joined := strings.Cut(arg, "=")
		switch {
		case joined && value != "" && redact.Flag(flag):
			args[i] = flag + "=" + hide(flag)
		case i > 0 && redact.Flag(args[i-1]) && !strings.HasPrefix(arg, "-"):
			args[i] = hide(args[i-1])
		case redact.Text(arg) != arg:
			hide("a word")
			args[i] = redact.Text(arg)
		}
	}
	return args
}

var badIDLetter = lazyregexp.New(`[^A-Za-z0-9_-]+`)
