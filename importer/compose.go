package importer

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/importer/internal/composefile"
	"github.com/llama-orch/engine-provisioner/internal/shell"
	"github.com/llama-orch/engine-provisioner/internal/strictyaml"
	"github.com/llama-orch/engine-provisioner/internal/variables"
)

// document reads YAML as plain values, with its aliases expanded.
func document(data []byte) (map[string]any, *yaml.Node, error) {
	root, problems := strictyaml.Tree(data)
	if len(problems) > 0 {
		return nil, nil, fmt.Errorf("line %d: %s", problems[0].Line, problems[0].Message)
	}
	var values map[string]any
	if err := root.Decode(&values); err != nil {
		return nil, nil, fmt.Errorf("cannot read this as YAML: %s", show(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	return values, root, nil
}

// tags are the values that have a tag of their own.
func tags(n *yaml.Node, found []*yaml.Node) []*yaml.Node {
	if n.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(n.Tag, "!!") {
		found = append(found, n)
	}
	for _, c := range n.Content {
		found = tags(c, found)
	}
	return found
}

// keysOf are the keys of a block in their order; those of merged blocks are not among them.
func keysOf(root *yaml.Node, path ...string) []string {
	for _, key := range path {
		root = child(root, key)
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return nil
	}
	var keys []string
	for i := 0; i+1 < len(root.Content); i += 2 {
		keys = append(keys, root.Content[i].Value)
	}
	return keys
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			value := n.Content[i+1]
			if value.Kind == yaml.AliasNode {
				value = value.Alias
			}
			return value
		}
	}
	return nil
}

// compose makes a pools file of a Compose file. Other files that it names are not read.
func compose(data []byte, path string, opts []provisioner.Option) (*File, error) {
	values, root, err := document(data)
	if err != nil {
		return nil, err
	}
	file := &File{}
	for _, tag := range tags(root, nil) {
		file.notes = append(file.notes, fmt.Sprintf("decide: the tag %s on line %d is about the merging of files, which is not done here", show(tag.Tag), tag.Line))
	}
	f := &composeFile{opts: opts, services: map[string]map[string]any{}, notes: map[string][]string{}}
	if values["include"] != nil {
		file.notes = append(file.notes, fmt.Sprintf("decide: include %s: other files are not read; \"docker compose config\" writes all of them as one, which can be imported", show(values["include"])))
	}
	delete(values, "include")
	delete(values, "version") // it means nothing
	services, ok := values["services"].(map[string]any)
	if !ok || len(services) == 0 {
		return nil, errors.New("it has no services")
	}
	for name, service := range services {
		if of, ok := service.(map[string]any); ok {
			f.services[name] = of
			f.prepare(name, of, services)
		}
	}
	known, err := composefile.Services(services, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("cannot understand the Compose file: %s", show(err))
	}
	var others []string
	for _, name := range keysOf(root, "services") {
		service, ok := known[name]
		if !ok {
			continue
		}
		p, err := f.pool(service)
		switch {
		case errors.Is(err, errNoEngine):
			others = append(others, name)
		case err != nil:
			file.notes = append(file.notes, fmt.Sprintf("decide: the service %s: %s", show(name), show(err)))
		default:
			file.pools = append(file.pools, p)
		}
	}
	for _, name := range others {
		image := known[name].Image
		file.notes = append(file.notes, fmt.Sprintf("left out: the service %s is no engine that is known%s", show(name), ofImage(image)))
	}
	if len(file.pools) == 0 {
		return nil, fmt.Errorf("no engine is known in its services: %s", show(strings.Join(append(others, file.notes...), ", ")))
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch {
		case key == "services" || key == "name" || strings.HasPrefix(key, "x-"):
		case key == "volumes" || key == "networks":
			file.notes = append(file.notes, fmt.Sprintf("left out: %s at the top of the file: %s: the runtime makes what is not there, and Compose put the project's name before theirs",
				key, show(strings.Join(slices.Sorted(maps.Keys(block(values[key]))), ", "))))
		default:
			file.notes = append(file.notes, fmt.Sprintf("left out: %s at the top of the file: %s", show(key), show(strings.Join(slices.Sorted(maps.Keys(block(values[key]))), ", "))))
		}
	}
	file.unique()
	return file, nil
}

func ofImage(image string) string {
	if image == "" {
		return ""
	}
	return ": " + show(image)
}

func block(value any) map[string]any {
	m, _ := value.(map[string]any)
	return m
}

// composeFile is a Compose file that is read.
type composeFile struct {
	opts     []provisioner.Option
	services map[string]map[string]any // as they stand there
	notes    map[string][]string       // by service
}

func (f *composeFile) note(service, format string, args ...any) {
	f.notes[service] = append(f.notes[service], fmt.Sprintf(format, args...))
}

// asTheyAre are the keys of a service in which a variable without a value can stay as it is.
var asTheyAre = []string{"command", "entrypoint", "environment", "volumes", "image"}

// prepare takes out of a service what is in other files, and gives variables their values.
func (f *composeFile) prepare(name string, service map[string]any, services map[string]any) {
	if extends := service["extends"]; extends != nil {
		other, _ := extends.(string)
		if m := block(extends); m != nil {
			other, _ = m["service"].(string)
			if m["file"] != nil {
				f.note(name, "decide: extends %s: other files are not read; \"docker compose config\" writes all of them as one, which can be imported", show(m["file"]))
				delete(service, "extends")
			}
		}
		if service["extends"] != nil && services[other] == nil {
			f.note(name, "decide: extends %s, which is not in the file", show(other))
			delete(service, "extends")
		}
	}
	for _, key := range []string{"env_file", "label_file"} {
		if value := service[key]; value != nil {
			f.note(name, "decide: %s %s was not read: write its variables under \"env\", and secrets as {from_env: NAME}", key, show(value))
			delete(service, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(service)) {
		value, unknown := expandAll(service[key], slices.Contains(asTheyAre, key))
		for _, u := range unknown {
			if key != "environment" {
				f.note(name, "%s", shell.Unknown(u)+" (in "+key+")")
			}
		}
		if value == nil && service[key] != nil {
			f.note(name, "decide: %s", showKey(key, service[key]))
			delete(service, key)
			continue
		}
		service[key] = value
	}
}

// expandAll gives variables in all texts of a value the defaults that stand there. What has none is kept, or left out.
func expandAll(value any, keep bool) (any, []string) {
	switch v := value.(type) {
	case string:
		text, unknown := variables.Expand(v, func(string) (string, bool) { return "", false })
		if len(unknown) > 0 && !keep {
			return nil, unknown
		}
		return text, unknown
	case []any:
		var list []any
		var all []string
		for _, one := range v {
			got, unknown := expandAll(one, keep)
			all = append(all, unknown...)
			if got != nil || one == nil {
				list = append(list, got)
			}
		}
		if list == nil && len(v) > 0 {
			return nil, all
		}
		return list, all
	case map[string]any:
		m := map[string]any{}
		var all []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			got, unknown := expandAll(v[key], keep)
			all = append(all, unknown...)
			if got != nil || v[key] == nil {
				m[key] = got
			}
		}
		return m, all
	}
	return value, nil
}
