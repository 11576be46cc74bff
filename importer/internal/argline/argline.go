// Package argline makes a pool of a command line that starts an engine, as the package importer has found it: a program, its
// arguments and its variables.
//
// The package importer calls it; shells, wrappers, containers and files are that one's. It is pure but for the home directory of
// whoever runs it, for "~".
package argline

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/redact"
)

// Pool is a pool in the making. It is plain data.
type Pool struct {
	ID     string // a name for it, after the program
	Engine string // as in a pools file
	// Program is what stood before the engine's own arguments: one word, or several such as "python3 -m vllm…".
	Program []string
	// Host is the address that it listened on; "" where the command line says none.
	Host string
	// Keys are those of the pool, by their names in a pools file. The value of "flags" is a []string, and that of "env" a
	// map[string]Value.
	Keys map[string]Key
	// Notes are about what has no key, a line each, without secrets.
	Notes []string
}

// Key is the value of a key, as encoding/json and YAML write it, and what there is to decide about it; "" for nothing.
type Key struct {
	Value any
	Note  string
}

// Value is the value of a variable: plain text, or the name of a variable that holds what is secret.
type Value struct {
	Text    string
	FromEnv string // "" for plain text
}

// MarshalJSON writes it as a pools file has it.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.FromEnv != "" {
		return json.Marshal(map[string]string{"from_env": v.FromEnv})
	}
	return json.Marshal(v.Text)
}

// Engine is an engine that a command line may start.
type Engine struct {
	Name    string
	Dialect *flagline.Dialect // how it writes its command line; nil where that is not known
	Program engine.Program
}

// Read makes a pool of a program and its arguments, as a shell would pass them ("llama-server -hf a/b -c 8192",
// "vllm serve …", "python -m sglang.launch_server …"). env are its variables.
//
// Nothing is lost: what another key decides becomes that key, flags stay as they are and in their order, and what has no
// place in a pools file, or needs a decision, is a note. Secrets are left out: their keys refer to a variable instead. The
// error says why the command line cannot be understood.
func Read(args []string, env map[string]string, engines []Engine) (*Pool, error) {
	p := &reading{pool: Pool{Keys: map[string]Key{}}, engines: engines, env: map[string]Value{}}
	for name, value := range env {
		p.setEnv(name, value)
	}
	if len(args) == 0 {
		return nil, errors.New("cannot import an empty command line; write it behind \"--\"")
	}
	if err := p.takeProgram(args); err != nil {
		return nil, err
	}
	p.finish()
	return &p.pool, nil
}

// reading is a pool in the making.
type reading struct {
	pool    Pool
	engines []Engine
	dialect *flagline.Dialect // nil for an engine of which it is not known

	env                                             map[string]Value
	said                                            map[string]int // subjects of flags
	flags                                           []string
	modelName, hubRepo, hubFile, modelURL, revision string
}

// engine is the one of a name.
func (p *reading) engine(name string) Engine {
	i := slices.IndexFunc(p.engines, func(e Engine) bool { return e.Name == name })
	if i < 0 {
		return Engine{}
	}
	return p.engines[i]
}

func (p *reading) set(key string, value any, note string) {
	p.pool.Keys[key] = Key{value, note}
}

// decide sets a key to a value that nobody has asked for.
func (p *reading) decide(key string, value any, note string) { p.set(key, value, "decide: "+note) }

func (p *reading) note(text string) { p.pool.Notes = append(p.pool.Notes, text) }

// takeFlags takes the arguments of an engine whose command line is known.
func (p *reading) takeFlags(args []string) {
	p.dialect = p.engine(p.pool.Engine).Dialect
	if p.dialect.Positional {
		args = p.takePositional(args)
	}
	for _, f := range p.lastWords(p.dialect.Split(engine.FlagSet{}, args)) {
		p.takeFlag(f, args)
	}
}

// takePositional takes the model of "vllm serve MODEL" away, wherever it stands.
func (p *reading) takePositional(args []string) []string {
	for _, f := range p.dialect.Split(engine.FlagSet{}, args) {
		if f.Stray && p.modelName == "" {
			p.modelName = f.Name
			return slices.Delete(slices.Clone(args), f.Index, f.Index+1)
		}
	}
	return args
}

// takeFlag takes one flag: as a key where one decides it, else as it is.
func (p *reading) takeFlag(f flagline.Word, args []string) {
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
		delete(p.pool.Keys, "gpu")
		p.flags = append(p.flags, elements...)
	case advice == "" && (secretOfEngine.MatchString(f.Name) && value != "" || redact.Value(strings.Join(elements, " "))):
		p.note(fmt.Sprintf("left out: %s: its value may be a secret, which every user of this machine can read on a command line", f.Name))
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
		p.pool.Host = value
	case is("--api-key-file"):
		p.set("api_key", map[string]any{"from_file": value}, "the file must hold one key alone")
	case advice == flagline.AdviceKey:
		p.set("api_key", map[string]any{"from_env": keyVariable}, "the key that stood on the command line: put it into this variable")
	case advice == flagline.AdviceToken:
		p.env["HF_TOKEN"] = Value{FromEnv: "HF_TOKEN"}
		p.note("the token that stood on the command line belongs into the variable HF_TOKEN")
	default:
		p.note(fmt.Sprintf("left out: %s: %s", flagline.NameIn(f.Name), advice)) // its value may be a secret
	}
}

// secretOfEngine is narrower than redact.Flag: engines have flags such as "--think-end-token", too.
var secretOfEngine = lazyregexp.New(`(?i)(api-?_?key|admin-key|password|passwd|secret|(auth|access)-token)$`)

// keyVariable is what a key that was found is looked up in.
const keyVariable = "ENGINE_API_KEY"

// setEnv takes a variable. A value that may be a secret stays where it is.
func (p *reading) setEnv(name, value string) {
	if redact.Name(name) || redact.Value(value) {
		p.env[name] = Value{FromEnv: name}
		return
	}
	p.env[name] = Value{Text: value}
}

// finish makes keys of what was found in several places.
func (p *reading) finish() {
	p.takeOwnedEnv()
	if p.pool.Keys["gpu"].Value == string(engine.GPUNone) && p.pool.Keys["devices"].Value != nil {
		delete(p.pool.Keys, "devices")
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
	case model != "" && p.engine(p.pool.Engine).Program.Model == engine.ModelFolder && models.IsRepository(model):
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
	} else if p.modelURL == "" && p.pool.Engine != custom.Name {
		p.decide("model", map[string]any{"id": "/path/to/model"}, "no model was named")
	}
	if _, ok := p.pool.Keys["port"]; !ok {
		p.decide("port", p.engine(p.pool.Engine).Program.Port, "none was named; this is the engine's own")
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

// takeOwnedEnv makes keys of the variables that other keys decide.
func (p *reading) takeOwnedEnv() {
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		value := p.env[name].Text
		if p.takeVariable(name, value) {
			delete(p.env, name)
			continue
		}
		advice, owned := keys.OwnedVariable(name)
		if def, ok := p.envTwin(name); ok {
			a := p.dialect.Advice(def.Names...)
			if a == flagline.AdviceKey {
				p.set("api_key", map[string]any{"from_env": name}, "")
				delete(p.env, name)
				continue
			}
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

func (p *reading) envTwin(name string) (engine.FlagDef, bool) {
	if p.dialect == nil {
		return engine.FlagDef{}, false
	}
	return p.dialect.FindEnv(p.dialect.Builtin(), name)
}

func (p *reading) takeDevices(value string) {
	if strings.Contains(value, "$") {
		p.note(fmt.Sprintf("decide: CUDA_VISIBLE_DEVICES was %s: write the GPUs as \"devices\"", visible(value)))
		return
	}
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
