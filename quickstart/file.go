package quickstart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/kballard/go-shellquote"
	"sigs.k8s.io/yaml"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/settings"
)

// schemaURL is where editors find the schema of a pools file.
const schemaURL = "https://raw.githubusercontent.com/llama-orch/engine-provisioner/main/config.schema.json"

// sampleFlags are what people set first, by engine.
var sampleFlags = map[string]string{
	"llamacpp": "--ctx-size 8192 --parallel 2", "vllm": "--max-model-len 8192", "sglang": "--context-length 8192", "tgi": "--max-total-tokens 8192",
}

// YAML is the draft as a pools file, with comments for who sees one for the first time. Reading it gives the same pool. The
// error says that a value cannot be written, such as a name with a character that YAML has no place for.
func (d *Draft) YAML() ([]byte, error) {
	var f file
	f.WriteString("# yaml-language-server: $schema=" + schemaURL + "\n" +
		"# \"engine-provisioner validate\" checks this file, \"plan\" shows what would be run and why, and \"engine-provisioner\"\n" +
		"# alone runs it. docs/configuration.md has all keys.\n" +
		"pools:\n")
	f.set("id", d.Pool.ID, "names the pool in logs, commands and the handoff file")
	f.set("engine", d.Pool.Engine, "llamacpp, vllm, sglang, tgi, or custom for any other server", d.because("engine"))
	f.set("port", d.Pool.Port, `on 127.0.0.1; of "replicas: 2" the second has the next one`, d.because("port"))
	f.set("model", d.Pool.Model, "a path is relative to this file's folder; docs/models.md has the other forms")
	if len(d.Pool.Flags) > 0 {
		f.set("flags", shellquote.Join(d.Pool.Flags...), "the engine's own, as on its command line")
	} else if sample := sampleFlags[d.Pool.Engine]; sample != "" {
		f.comment("the engine's own, as on its command line:")
		f.comment(fmt.Sprintf("flags: %q", sample))
	}
	f.set("gpu", d.Pool.GPU, "required: a start without a usable GPU fails; optional: the CPU will do; none: the CPU", d.because("gpu"))
	if d.Pool.Provisioning != (settings.Provisioning{}) {
		f.set("provisioning", d.Pool.Provisioning, "brings the executable; without it, the one in PATH is run", d.because("provisioning"))
	}
	if f.err != nil {
		return nil, f.err
	}
	if err := d.check(f.Bytes()); err != nil {
		return nil, err
	}
	return f.Bytes(), nil
}

// because is why a key has its value; "" where somebody has asked for it.
func (d *Draft) because(key string) string {
	if why := d.reasons[key]; why != "" {
		return "on this host: " + why
	}
	return ""
}

// check reads a file back: the library that writes it loses a few characters in silence, such as line separators.
func (d *Draft) check(text []byte) error {
	config, err := provisioner.ParseConfig(text, "")
	if err != nil {
		return fmt.Errorf("cannot write the file: %w", err)
	}
	want, err := json.Marshal(d.Pool)
	got, gotErr := json.Marshal(config.Pools[0])
	if err := errors.Join(err, gotErr); err != nil || !bytes.Equal(got, want) {
		return errors.Join(err, errors.New("cannot write the file: a name or flag holds a character that would be lost; rename it"))
	}
	return nil
}

// file is a pool in a pools file that is being written.
type file struct {
	bytes.Buffer
	begun bool // the pool has its first key
	err   error
}

// comment writes a comment, and nothing for "".
func (f *file) comment(text string) {
	indent := "    "
	if !f.begun {
		indent = "  "
	}
	if text = strings.Join(strings.Fields(tail.Clean(text)), " "); text != "" {
		f.WriteString(indent + "# " + text + "\n")
	}
}

// set writes a key of the pool below what there is to say about it.
func (f *file) set(key string, value any, comments ...string) {
	for _, text := range comments {
		f.comment(text)
	}
	data, err := yaml.Marshal(map[string]any{key: value})
	if err != nil {
		f.err = errors.Join(f.err, fmt.Errorf("cannot write %q: %w", key, err))
	}
	for line := range strings.Lines(string(data)) {
		indent := "    "
		if !f.begun {
			indent, f.begun = "  - ", true
		}
		f.WriteString(indent + line)
	}
}
