package provisioner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"
	"sigs.k8s.io/yaml"

	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/tail"
)

// Imported is a pools file made of what people have, with a comment where there is something to decide. It is plain data
// and safe for concurrent use.
type Imported struct{ pools []*poolImport }

// poolImport is a pool in the making.
type poolImport struct {
	id      string
	engine  string
	options options
	dialect *flagline.Dialect // nil for an engine of which it is not known

	keys  map[string]importedKey
	notes []string // what has no key

	said                                            map[string]int // subjects of flags
	env                                             map[string]EnvValue
	flags                                           []string
	modelName, hubRepo, hubFile, modelURL, revision string
}

// importedKey is a key of a pool, with what there is to decide about it.
type importedKey struct {
	value any
	note  string
}

func (p *poolImport) set(key string, value any, note string) {
	if p.keys == nil {
		p.keys = map[string]importedKey{}
	}
	p.keys[key] = importedKey{value, note}
}

// decide sets a key to a value that nobody has asked for.
func (p *poolImport) decide(key string, value any, note string) { p.set(key, value, "decide: "+note) }

func (p *poolImport) note(text string) { p.notes = append(p.notes, text) }

// keyOrder is the order of keys in a file that is written.
var keyOrder = []string{"host", "expose", "port", "model", "flags", "env", "api_key", "gpu", "devices", "provisioning", "custom", "ready", "restart", "stop"}

// YAML is the file's text. Reading it back gives the same pools.
func (i *Imported) YAML() ([]byte, error) {
	var b strings.Builder
	b.WriteString("pools:\n")
	for _, p := range i.pools {
		for _, note := range p.notes {
			fmt.Fprintf(&b, "  # %s\n", comment(note))
		}
		id, err := yaml.Marshal(p.id) // "yes" and "123" are names, too
		if err != nil {
			return nil, fmt.Errorf("cannot write \"id\": %w", err)
		}
		fmt.Fprintf(&b, "  - id: %s    engine: %s\n", id, p.engine)
		for _, key := range keyOrder {
			k, ok := p.keys[key]
			if !ok {
				continue
			}
			if k.note != "" {
				fmt.Fprintf(&b, "    # %s\n", comment(k.note))
			}
			value := k.value
			if list, ok := value.([]string); ok {
				value = shellquote.Join(list...)
			}
			text, err := yaml.Marshal(map[string]any{key: value})
			if err != nil {
				return nil, fmt.Errorf("cannot write %q: %w", key, err)
			}
			for line := range strings.Lines(string(text)) {
				b.WriteString("    " + line)
			}
		}
	}
	return []byte(b.String()), nil
}

// comment is text that fits behind a "#".
func comment(text string) string { return strings.Join(strings.Fields(tail.Clean(text)), " ") }

// Notes are the comments of the file, for people.
func (i *Imported) Notes() []string {
	var all []string
	for _, p := range i.pools {
		all = append(all, p.notes...)
		for _, key := range keyOrder {
			if note := p.keys[key].note; note != "" {
				all = append(all, key+": "+note)
			}
		}
	}
	return slices.Clip(all)
}
