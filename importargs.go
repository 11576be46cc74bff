package provisioner

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/redact"
)

// ImportArgs makes a pool of a command line that starts an engine: a program and its arguments, as a shell would pass
// them ("llama-server -hf a/b -c 8192", "vllm serve …", "python -m sglang.launch_server …"), with variables before it
// where it has some ("env CUDA_VISIBLE_DEVICES=0 llama-server …"). env are more of them.
//
// Nothing is lost: what another key decides becomes that key, flags stay as they are and in their order, and what has no
// place in a pools file, or needs a decision, is a comment. Secrets are left out: their keys refer to a variable instead.
// It looks at no file. Of opts, those matter that add an engine that is an [EngineWithFlags]. The error says why the command line cannot be understood.
func ImportArgs(args []string, env map[string]string, opts ...Option) (*Imported, error) {
	p := &poolImport{options: newOptions(opts), env: map[string]EnvValue{}}
	for name, value := range env {
		p.setEnv(name, value)
	}
	args = p.takeEnv(args)
	if len(args) == 0 {
		return nil, errors.New("cannot import an empty command line; write it behind \"--\"")
	}
	if err := p.takeProgram(args); err != nil {
		return nil, err
	}
	p.finish()
	return &Imported{pools: []*poolImport{p}}, nil
}

// wrappers are commands that run the command behind them, and change nothing that matters here.
var wrappers = []string{"exec", "nohup", "command", "sudo", "time", "nice", "env"}

var assignment = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)=(?s:(.*))$`)

// takeEnv takes variables and wrappers from the front of a command line, and returns the rest.
func (p *poolImport) takeEnv(args []string) []string {
	for len(args) > 0 {
		if m := assignment.FindStringSubmatch(args[0]); m != nil {
			p.setEnv(m[1], m[2])
		} else if !slices.Contains(wrappers, args[0]) {
			return args
		}
		args = args[1:]
	}
	return nil
}

var pythonName = regexp.MustCompile(`^python[0-9.]*$`)

// takeProgram finds out which engine is started, and takes its arguments.
func (p *poolImport) takeProgram(args []string) error {
	program, rest := args[0], args[1:]
	name := strings.TrimSuffix(path.Base(filepath.ToSlash(program)), ".exe")
	if pythonName.MatchString(name) && len(rest) > 1 && rest[0] == "-m" {
		name, rest = rest[1], rest[2:]
	}
	if strings.HasPrefix(name, "-") {
		return fmt.Errorf("cannot import a command line that begins with the flag %q; write the program before it, such as llama-server", name)
	}
	if by, subcommand := p.startedBy(name); by != "" {
		p.engine, p.id = by, by
		if subcommand != "" {
			if len(rest) == 0 || rest[0] != subcommand {
				return fmt.Errorf("cannot import %q: the subcommand %q is missing", program, subcommand)
			}
			rest = rest[1:]
		}
		if strings.ContainsRune(program, '/') && !pythonName.MatchString(path.Base(program)) {
			p.set("provisioning", map[string]any{"binary": map[string]any{"path": program}}, "")
		}
		p.takeFlags(rest)
		return nil
	}
	p.engine, p.id = (custom{}).Name(), cmp.Or(strings.Trim(strings.ToLower(badIDLetter.ReplaceAllString(name, "-")), "-_"), "custom")
	p.set("custom", map[string]any{"command": p.withoutSecrets(args), "health": "/"},
		"not one of the built-in engines: write {host} and {port} where they stand, and the path that answers 200 when it is ready")
	p.decide("port", 8080, "the port that it shall listen on")
	return nil
}

// startedBy is the engine that a program, or a module of Python, starts, and the subcommand with which it does; "" for none.
func (p *poolImport) startedBy(program string) (engine, subcommand string) {
	for _, e := range p.options.engines {
		dialect := p.options.dialect(e.Name())
		if dialect == nil {
			continue
		}
		for _, c := range dialect.Commands {
			if c.Name == program {
				return e.Name(), c.Subcommand
			}
		}
	}
	return "", ""
}

// withoutSecrets is the command line of a server of which nothing is known, without values that look like secrets.
func (p *poolImport) withoutSecrets(args []string) []string {
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
		case redact.HasUser(arg):
			args[i] = redact.User(arg, hide("a URL"))
		}
	}
	return args
}

var badIDLetter = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// takeFlags takes the arguments of an engine whose command line is known.
func (p *poolImport) takeFlags(args []string) {
	p.dialect = p.options.dialect(p.engine)
	if p.dialect.Positional {
		args = p.takePositional(args)
	}
	for _, f := range p.lastWords(p.dialect.Split(engine.FlagSet{}, args)) {
		p.takeFlag(f, args)
	}
}

// takePositional takes the model of "vllm serve MODEL" away, wherever it stands.
func (p *poolImport) takePositional(args []string) []string {
	for _, f := range p.dialect.Split(engine.FlagSet{}, args) {
		if f.Stray && p.modelName == "" {
			p.modelName = f.Name
			return slices.Delete(slices.Clone(args), f.Index, f.Index+1)
		}
	}
	return args
}

// takeFlag takes one flag: as a key where one decides it, else as it is.
func (p *poolImport) takeFlag(f flagline.Word, args []string) {
	elements := args[f.Index : f.Index+1]
	if !f.Joined && !f.Stray {
		elements = args[f.Index : f.Index+1+len(f.Values)]
	}
	def, full, known := p.dialect.LookUp(engine.FlagSet{}, f.Name)
	names := append([]string{full}, slices.Concat(def.Names, def.Negated)...)
	advice := ""
	if known && !p.dialect.IsAlone(names, f.Values) {
		advice = p.dialect.Advice(names...)
	}
	value := ""
	if len(f.Values) > 0 {
		value = f.Values[0]
	}
	is := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(def.Names, n) })
	}
	change, changed := p.dialect.Change(full)
	switch {
	case changed && change.To == nil && change.Since == 1: // no build in use has it
		p.note(fmt.Sprintf("left out: %s: %s", f.Name, change.Advice))
	case advice == "" && is("--n-gpu-layers") && value == "0":
		p.set("gpu", "none", "")
	case advice == "" && is("--n-gpu-layers"): // the last one counts
		delete(p.keys, "gpu")
		p.flags = append(p.flags, elements...)
	case advice == "":
		p.flags = append(p.flags, elements...)
	case is("-m", "--model", "--model-path", "--model-id"):
		p.modelName = value
	case is("-hf", "--hf-repo"):
		p.hubRepo = value
	case is("-hff", "--hf-file"):
		p.hubFile = value
	case is("-mu", "--model-url"):
		p.modelURL = value
	case is("--revision"):
		p.revision = value
	case is("--port", "-p"):
		if n, err := strconv.Atoi(value); err == nil && n > 0 && n < 1<<16 {
			p.set("port", n, "")
		} else {
			p.decide("port", 8080, "it stood on the command line as a word that is no port")
		}
	case is("--host", "--hostname"):
		p.takeHost(value)
	case is("--api-key-file"):
		p.set("api_key", map[string]any{"from_file": value}, "the file must hold one key alone")
	case advice == flagline.AdviceKey:
		p.set("api_key", map[string]any{"from_env": keyVariable}, "the key that stood on the command line: put it into this variable")
	case advice == flagline.AdviceToken:
		p.env["HF_TOKEN"] = EnvValue{Secret: &SecretRef{FromEnv: "HF_TOKEN"}}
		p.note("the token that stood on the command line belongs into the variable HF_TOKEN")
	default:
		p.note(fmt.Sprintf("left out: %s: %s", flagline.NameIn(f.Name), advice)) // its value may be a secret
	}
}

// keyVariable is what a key that was found is looked up in.
const keyVariable = "ENGINE_API_KEY"

func (p *poolImport) takeHost(host string) {
	switch host {
	case "127.0.0.1", "localhost":
	case "::1":
		p.set("host", host, "")
	default:
		p.note(fmt.Sprintf("it listened on %q, for other machines, too: here on 127.0.0.1 alone; for others write \"host: 0.0.0.0\", \"expose: true\" and an api_key",
			visible(host)))
	}
}

var secretName = regexp.MustCompile(`(?i)(^|_)((?:api)?key|token|secret|password|passwd|pass|credentials?)($|_)`)

// setEnv takes a variable. A value that may be a secret stays where it is.
func (p *poolImport) setEnv(name, value string) {
	if secretName.MatchString(name) || redact.HasUser(value) {
		p.env[name] = EnvValue{Secret: &SecretRef{FromEnv: name}}
		return
	}
	p.env[name] = EnvValue{Value: value}
}

// finish makes keys of what was found in several places.
func (p *poolImport) finish() {
	p.takeOwnedEnv()
	if p.keys["gpu"].value == string(GPUNone) && p.keys["devices"].value != nil {
		delete(p.keys, "devices")
		p.note("left out: CUDA_VISIBLE_DEVICES: no layer goes to a GPU")
	}
	model := p.modelName
	switch {
	case p.hubRepo != "" && p.hubFile != "":
		model = "hf:" + p.hubRepo + "/" + p.hubFile
		model = strings.Replace(model, ":"+quantOf(p.hubRepo)+"/", "/", 1)
	case p.hubRepo != "":
		model = "hf:" + p.hubRepo
	case hubFileOf(p.modelURL) != "":
		model = hubFileOf(p.modelURL)
	case p.modelURL != "":
		p.set("model", map[string]any{"id": p.modelURL, "sha256": strings.Repeat("0", 64)}, "the checksum of the file, as sha256sum prints it")
	case model != "" && p.program().Model == engine.ModelFolder && models.IsRepository(model):
		model = "hf:" + model
	}
	model = p.takeHome(model)
	if p.revision != "" && strings.HasPrefix(model, "hf:") {
		model += "@" + p.revision
	} else if p.revision != "" {
		p.note("left out: --revision: it belongs to a model of the hub")
	}
	if model != "" {
		p.set("model", map[string]any{"id": model}, "")
	} else if p.modelURL == "" && p.engine != (custom{}).Name() {
		p.decide("model", map[string]any{"id": "/path/to/model"}, "no model was named")
	}
	if _, ok := p.keys["port"]; !ok {
		p.decide("port", p.program().Port, "none was named; this is the engine's own")
	}
	if len(p.flags) > 0 {
		p.set("flags", p.flags, "")
	}
	if len(p.env) > 0 {
		p.set("env", maps.Clone(p.env), "")
	}
}

func quantOf(repo string) string {
	_, quant, _ := strings.Cut(repo, ":")
	return quant
}

// program is what the engine says of its executable.
func (p *poolImport) program() engine.Program {
	e, _ := p.options.engine(p.engine)
	return programOf(e, ProvisionConfig{})
}

// takeOwnedEnv makes keys of the variables that other keys decide.
func (p *poolImport) takeOwnedEnv() {
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		value := p.env[name].Value
		if p.takeVariable(name, value) {
			delete(p.env, name)
			continue
		}
		advice, owned := ownedEnv[name]
		if def, ok := p.envTwin(name); ok {
			a := p.dialect.Advice(def.Names...)
			if a != "" && a != flagline.AdviceToken && !p.dialect.IsAlone(def.Names, []string{value}) {
				p.takeFlag(flagline.Word{Name: def.Names[len(def.Names)-1], Values: []string{value}, Joined: true, Known: true}, []string{name})
				delete(p.env, name)
				continue
			}
		}
		if p.dialect != nil && p.dialect.OwnedEnv[name] != "" {
			advice, owned = p.dialect.OwnedEnv[name], true
		}
		switch {
		case name == "CUDA_VISIBLE_DEVICES":
			p.takeDevices(value)
		case owned && advice == flagline.AdviceKeyEnv:
			p.set("api_key", map[string]any{"from_env": name}, "")
		case owned:
			p.note(fmt.Sprintf("left out: the variable %s: %s", name, advice))
		default:
			continue
		}
		delete(p.env, name)
	}
}

func (p *poolImport) envTwin(name string) (engine.FlagDef, bool) {
	if p.dialect == nil {
		return engine.FlagDef{}, false
	}
	return p.dialect.FindEnv(p.dialect.Builtin(), name)
}

func (p *poolImport) takeDevices(value string) {
	devices := []any{}
	for one := range strings.SplitSeq(value, ",") {
		one = strings.TrimSpace(one)
		n, err := strconv.Atoi(one)
		switch {
		case one == "":
		case err == nil && n < 0:
			p.set("gpu", "none", "")
			return
		case err == nil:
			devices = append(devices, n)
		default:
			devices = append(devices, one)
		}
	}
	if len(devices) == 0 {
		p.set("gpu", "none", "")
		return
	}
	p.set("devices", devices, "indexes count in PCI bus order here, as nvidia-smi has them")
}

// visible is foreign text that can be shown.
func visible(s string) string { return strings.Trim(strconv.Quote(s), `"`) }
