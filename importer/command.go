package importer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/dockerrun"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/shell"
)

// Args makes a pools file of a command line that starts an engine, as a shell would pass it: "llama-server -hf a/b -c 8192",
// "docker run … vllm/vllm-openai …", with variables and wrappers before it ("env", "nice -n 10", "bash -c '…'"). env are more
// variables. Of opts, those matter that add an engine that is a [provisioner.EngineWithFlags]. The error says why the command
// line cannot be understood.
func Args(args []string, env map[string]string, opts ...provisioner.Option) (*File, error) {
	found, err := resolve(command{args: args, env: maps.Clone(env), opts: opts}, 0)
	if err != nil {
		return nil, err
	}
	file := &File{}
	for _, c := range found {
		p, err := c.pool()
		if err != nil {
			return nil, err
		}
		file.pools = append(file.pools, p)
	}
	file.unique()
	return file, nil
}

// script makes a pools file of a shell script.
func script(data []byte, name string, opts []provisioner.Option) (*File, error) {
	found, err := inShell(string(data), command{opts: opts}, 0)
	if err != nil {
		return nil, err
	}
	file := &File{}
	for _, c := range found {
		p, err := c.pool()
		if err != nil {
			return nil, err
		}
		file.pools = append(file.pools, p)
	}
	if len(file.pools) == 1 {
		file.pools[0].ID = poolID(strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)))
	}
	file.unique()
	return file, nil
}

// command is a program that is started, with what is known of how.
type command struct {
	args  []string
	env   map[string]string
	dir   string // what relative paths refer to; "" for the working directory
	notes []string
	opts  []provisioner.Option
}

func (c *command) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *command) setEnv(name, value string) {
	if c.env == nil {
		c.env = map[string]string{}
	}
	c.env[name] = value
}

// maxDepth is how many shells can stand in one another.
const maxDepth = 8

var assignment = lazyregexp.New(`^([A-Za-z_][A-Za-z0-9_]*)=(?s:(.*))$`)

// resolve takes variables, wrappers and shells away from before the programs that are started. Mostly that is one.
func resolve(c command, depth int) ([]command, error) {
	for len(c.args) > 0 {
		first := c.args[0]
		if m := assignment.FindStringSubmatch(first); m != nil {
			c.setEnv(m[1], m[2])
			c.args = c.args[1:]
			continue
		}
		name := path.Base(first)
		if i := slices.IndexFunc(c.args[1:], func(a string) bool { return shellLine.MatchString(a) }); shells[name] && i >= 0 && i+2 < len(c.args) {
			if depth == maxDepth {
				return nil, errors.New("shells stand inside of shells too deep")
			}
			text := c.args[i+2]
			c.args = nil
			return inShell(text, c, depth+1)
		}
		w, known := wrappers[name]
		if !known {
			return []command{c}, nil
		}
		if err := w.take(&c, name); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("cannot import an empty command line; write it behind \"--\"")
}

var shells = map[string]bool{"sh": true, "bash": true, "dash": true, "zsh": true, "ash": true, "ksh": true}

var shellLine = lazyregexp.New(`^-[a-z]*c$`)

// maxOthers is how many other commands of a script are told one by one.
const maxOthers = 12

// inShell gives the engines that a shell's text starts; where it starts none, its one command, whatever that is.
func inShell(text string, around command, depth int) ([]command, error) {
	read, err := shell.Read(text)
	if err != nil {
		return nil, err
	}
	var engines, others []command
	activated := ""
	for _, simple := range read.Commands {
		if w := simple.Words; len(w) > 1 && (w[0] == "source" || w[0] == ".") && strings.HasSuffix(w[1], "/bin/activate") {
			activated = path.Dir(w[1])
		}
		c := command{args: simple.Words, env: maps.Clone(around.env), opts: around.opts, dir: cmp.Or(simple.Dir, around.dir), notes: slices.Concat(around.notes, simple.Notes)}
		if around.dir != "" && simple.Dir != "" && !filepath.IsAbs(simple.Dir) {
			c.dir = filepath.Join(around.dir, simple.Dir)
		}
		for name, value := range simple.Env {
			c.setEnv(name, value)
		}
		found, err := resolve(c, depth)
		if err != nil || len(found) != 1 || !found[0].startsEngine() {
			if err == nil && len(found) > 1 {
				engines = append(engines, found...)
				continue
			}
			others = append(others, c)
			continue
		}
		if program := found[0].args[0]; activated != "" && !strings.ContainsRune(program, '/') {
			found[0].args = append([]string{path.Join(activated, program)}, found[0].args[1:]...)
		}
		engines = append(engines, found...)
	}
	if len(engines) == 0 {
		others = slices.DeleteFunc(others, func(c command) bool { return setup[c.args[0]] })
		if len(others) != 1 {
			return nil, errors.New("no engine is started in it: none of its commands is llama-server, vllm, sglang or text-generation-launcher")
		}
		return resolve(others[0], depth)
	}
	engines[0].notes = append(engines[0].notes, read.Maybe...)
	for i, c := range others {
		if i == maxOthers {
			engines[0].note("left out: %d other commands", len(others)-i)
			break
		}
		engines[0].note("left out: the command %s", show(strings.Join(redact.Args(c.args), " ")))
	}
	return engines, nil
}

// setup are commands that make a script ready, and start nothing.
var setup = map[string]bool{"cd": true, "set": true, "source": true, ".": true, "export": true, "echo": true, "mkdir": true, "sleep": true, "ulimit": true, "true": true, "exit": true, "test": true, "[": true}

// startsEngine reports whether the program is an engine's, or runs a container.
func (c *command) startsEngine() bool {
	if _, ok := dockerrun.Find(c.args); ok {
		return true
	}
	pool, err := readArgs(c.args, nil, c.opts)
	return err == nil && isEngine(pool.Engine)
}

// isEngine reports whether an engine's name is not that of any other server.
func isEngine(name string) bool { return name != "custom" }

// pool makes the pool of a command.
func (c *command) pool() (*pool, error) {
	if run, ok := dockerrun.Find(c.args); ok {
		box, err := dockerRun(run, c.env)
		if err != nil {
			return nil, err
		}
		box.opts, box.dir, box.notes = c.opts, cmp.Or(box.dir, c.dir), slices.Concat(c.notes, box.notes)
		return box.pool()
	}
	if base := path.Base(c.args[0]); base == "docker" || base == "podman" || base == "docker-compose" {
		return nil, fmt.Errorf("%s starts no container that is known; import the file that it reads", show(strings.Join(redact.Args(c.args), " ")))
	}
	found, err := readArgs(c.args, c.env, c.opts)
	if err != nil {
		return nil, err
	}
	p := &pool{*found}
	p.Notes = slices.Concat(c.notes, p.Notes)
	p.takeHost()
	p.takeProgram(c.dir)
	if p.Engine == "custom" {
		p.placePort()
	}
	if file := scriptOf(c.args); p.Engine == "custom" && file != "" {
		p.note("decide: it starts the script %s, which was not read; if that starts an engine: engine-provisioner import %s", show(file), show(file))
	}
	if id := p.modelID(); c.dir != "" && isPath(id) && !filepath.IsAbs(id) {
		p.setModel(filepath.Join(c.dir, id), "")
	}
	return p, nil
}

// scriptOf is the script that a command starts; "" for a program.
func scriptOf(args []string) string {
	if strings.HasSuffix(args[0], ".sh") {
		return args[0]
	}
	if shells[path.Base(args[0])] {
		for _, arg := range args[1:] {
			if !strings.HasPrefix(arg, "-") {
				return arg
			}
		}
	}
	return ""
}

// isPath reports whether a model's reference is a path, and not the name of something in a hub or at a URL.
func isPath(id string) bool {
	return id != "" && !strings.HasPrefix(id, "hf:") && !strings.Contains(id, "://") && !strings.HasPrefix(id, "$")
}

// takeHost says what became of the address that it listened on.
func (p *pool) takeHost() {
	switch host := p.Host; {
	case host == "" || host == "127.0.0.1" || host == "localhost":
	case host == "::1":
		p.set("host", host, "")
	case strings.Contains(host, "/") || strings.HasSuffix(host, ".sock"):
		p.note("decide: it listened on the unix socket %q: here it listens on a port of 127.0.0.1, where its clients must look for it", show(host))
	default:
		p.open(host)
	}
}

// open says what became of an address that others can reach.
func (p *pool) open(host string) {
	p.note(`it listened on %q, for other machines, too: here on 127.0.0.1 alone; for others write "host: 0.0.0.0", "expose: true" and an api_key`, show(host))
}

// takeProgram says which executable it was. dir is what a relative path refers to.
func (p *pool) takeProgram(dir string) {
	if !isEngine(p.Engine) || len(p.Program) == 0 {
		return
	}
	program, base := p.Program[0], path.Base(p.Program[0])
	usual := map[string]string{"llamacpp": "llama-server", "vllm": "vllm", "sglang": "sglang", "tgi": "text-generation-launcher"}[p.Engine]
	located := strings.ContainsRune(program, '/')
	if located && dir != "" && !filepath.IsAbs(program) && !strings.HasPrefix(program, "$") {
		program = filepath.Join(dir, program)
	}
	binary := func(path, note string) {
		p.set("provisioning", map[string]any{"binary": map[string]any{"path": path}}, note)
	}
	switch {
	case base == "llama" || strings.HasPrefix(base, "python"):
		if located {
			binary(path.Join(path.Dir(program), usual), fmt.Sprintf("decide: it was started by %q; this is the program that belongs to it, if it is there", show(strings.Join(p.Program, " "))))
		}
	case located:
		binary(program, "")
	case usual != "" && base != usual:
		binary(base, "")
	}
}
