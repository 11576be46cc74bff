// Package importer makes a pools file of what people have: command lines, shells, "docker run", llama-swap's and Docker
// Compose's files, systemd units and Ollama's Modelfiles. What another key decides becomes that key, and all else becomes a
// comment on the line concerned: nothing is lost in silence, and no secret comes along.
//
// It owns what those files mean; programs and the command "engine-provisioner import" call it. It reads the one file that is
// named, and never another that this one names, or the network; of the environment it reads HOME alone, for "~". It starts
// nothing.
package importer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/importer/internal/argline"
	"github.com/llama-orch/engine-provisioner/internal/foreign"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/redact"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
)

// File is a pools file in the making, with a comment where there is something to decide. It is safe for concurrent use; its
// zero value holds no pool.
type File struct {
	notes []string // about the whole
	pools []*pool
}

// maxSize is far above any real file of these kinds. It is a pools file's own limit.
const maxSize = 1 << 20

// ReadFile makes a pools file of the file at path, whatever of the kinds in the package's comment it is: that is seen by its
// content, and by its name. Relative paths in it become absolute ones where the file's folder is what they refer to. The
// error says what the file is and why no pool can be made of it. Of opts, those matter that add an engine, as in
// [Args].
func ReadFile(path string, opts ...provisioner.Option) (*File, error) {
	info, err := os.Stat(path) // before it is opened, since opening a named pipe waits for a writer
	if err != nil {
		return nil, fmt.Errorf("cannot import: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot import %q: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot import: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot import %q: %w", path, err)
	}
	return Data(data, path, opts...)
}

// Data is [ReadFile] of data that was read from the file of that name.
func Data(data []byte, name string, opts ...provisioner.Option) (*File, error) {
	if bytes.HasPrefix(data, []byte("GGUF")) {
		return nil, fmt.Errorf("cannot import %q: it is a model; \"engine-provisioner init\" makes a pools file for one", name)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("cannot import %q: it is larger than 1 MiB", name)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("cannot find the folder of %q: %w", name, err)
	}
	kind := foreign.Of(data, name)
	var file *File
	switch kind {
	case foreign.LlamaSwap:
		file, err = llamaSwap(data, opts)
	case foreign.Compose:
		file, err = compose(data, abs, opts)
	case foreign.Unit, foreign.Quadlet:
		file, err = systemdUnit(data, abs, opts)
	case foreign.Modelfile:
		file, err = modelfile(data, abs)
	case foreign.Script:
		file, err = script(data, name, opts)
	case foreign.Pools:
		err = errors.New("it is a pools file already; check it with \"engine-provisioner validate\"")
	case foreign.Dockerfile:
		err = errors.New("it is a Dockerfile, which makes an image; import what runs the image: a Compose file, or \"-- docker run …\"")
	default:
		if ext := filepath.Ext(name); ext == ".yaml" || ext == ".yml" || ext == ".json" {
			if _, problems := strictyaml.Tree(data); len(problems) > 0 {
				err = fmt.Errorf("line %d: %s", problems[0].Line, problems[0].Message)
				break
			}
		}
		err = errors.New("it is none of the files that are known: a llama-swap configuration, a Compose file, a systemd unit, " +
			"an Ollama Modelfile, or a shell script; a command line is written behind \"--\"")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot import %q: %w", name, err)
	}
	return file, nil
}

// pool is one pool in the making.
type pool struct{ argline.Pool }

// readArgs is [argline.Read] for the engines of a program.
func readArgs(args []string, env map[string]string, opts []provisioner.Option) (*argline.Pool, error) {
	var engines []argline.Engine
	for _, e := range provisioner.Engines(opts...) {
		one := argline.Engine{Name: e.Name(), Program: e.Program(engine.Request{})}
		if e, ok := e.(provisioner.EngineWithFlags); ok {
			one.Dialect = e.Dialect()
		}
		engines = append(engines, one)
	}
	return argline.Read(args, env, engines)
}

func (p *pool) set(key string, value any, note string) {
	p.Keys[key] = argline.Key{Value: value, Note: note}
}

// decide sets a key to a value that nobody has asked for.
func (p *pool) decide(key string, value any, note string) { p.set(key, value, "decide: "+note) }

func (p *pool) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// modelID is the model's reference.
func (p *pool) modelID() string {
	model, _ := p.Keys["model"].Value.(map[string]any)
	id, _ := model["id"].(string)
	return id
}

// setModel changes the model's reference, and keeps what stands beside it.
func (p *pool) setModel(id, note string) {
	model := map[string]any{"id": id}
	if old, ok := p.Keys["model"].Value.(map[string]any); ok && old["sha256"] != nil {
		model["sha256"] = old["sha256"]
	}
	p.set("model", model, cmp.Or(note, p.Keys["model"].Note))
}

var badIDLetters = lazyregexp.New(`[^a-z0-9_-]+`)

// named makes a pool's name of one that people gave, and says so where it is another.
func (p *pool) named(name string) {
	p.ID = poolID(name)
	if p.ID != name {
		p.note("it was called %q", show(name))
	}
}

// poolID is the nearest name that a pool can have; "pool" where nothing is left.
func poolID(name string) string {
	id := strings.Trim(badIDLetters.ReplaceAllString(strings.ToLower(name), "-"), "-_")
	if len(id) > 63 {
		id = strings.TrimRight(id[:63], "-_")
	}
	return cmp.Or(id, "pool")
}

// unique gives pools of one name different ones, and says where two want one port.
func (f *File) unique() {
	ids := map[string]bool{}
	for _, p := range f.pools {
		base := p.ID
		for n := 2; ids[p.ID]; n++ {
			suffix := fmt.Sprintf("-%d", n)
			p.ID = strings.TrimRight(base[:min(len(base), 63-len(suffix))], "-_") + suffix
		}
		ids[p.ID] = true
	}
	taken := map[int]string{}
	for _, asked := range []bool{true, false} { // what somebody has asked for comes first
		for _, p := range f.pools {
			key := p.Keys["port"]
			port, _ := key.Value.(int)
			if strings.HasPrefix(key.Note, "decide: ") == asked {
				continue
			}
			if other, ok := taken[port]; ok && asked {
				p.set("port", port, fmt.Sprintf("decide: it had %d, which the pool %s has", port, other))
				continue
			}
			replicas, _ := p.Keys["replicas"].Value.(int)
			for taken[port] != "" {
				port++
			}
			p.set("port", port, key.Note)
			for n := range max(replicas, 1) {
				taken[port+n] = p.ID
			}
		}
	}
}

// show is a foreign value in a comment: one short line, without what may be a secret.
func show(value any) string {
	var plain string
	switch v := value.(type) {
	case string:
		plain = v
	case error:
		plain = v.Error()
	default:
		plain = fmt.Sprint(value)
		var b strings.Builder
		json := json.NewEncoder(&b)
		json.SetEscapeHTML(false)
		if err := json.Encode(withoutSecrets(value)); err == nil {
			plain = b.String()
		}
	}
	return redact.Short(plain)
}

// withoutSecrets is a value without those of keys that may hold a secret.
func withoutSecrets(value any) any {
	switch v := value.(type) {
	case []any:
		list := make([]any, len(v))
		for i, one := range v {
			list[i] = withoutSecrets(one)
		}
		return list
	case map[string]any:
		m := map[string]any{}
		for key, one := range v {
			if m[key] = redact.Word; !redact.Name(key) {
				m[key] = withoutSecrets(one)
			}
		}
		return m
	}
	return value
}

// showKey is a foreign setting in a comment.
func showKey(key string, value any) string {
	if redact.Name(key) {
		return show(key) + ": " + redact.Word
	}
	return show(key) + ": " + show(value)
}
