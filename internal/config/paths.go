package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Pointers are the parts of a replica in which files are named.
type Pointers struct {
	Model        models.Request
	APIKey       *settings.SecretRef
	Env          map[string]settings.EnvValue
	Provisioning settings.Provisioning
	Custom       *settings.Custom
	Drain        settings.Drain
}

// Paths refuses paths that a shell would expand, and nobody does here: with them, another file is named than is meant.
func (k *Checker) Paths(prefix string, p Pointers) {
	if ref, err := p.Model.Ref(); err == nil && ref.Path != "" {
		k.path(prefix+"model.id", strings.TrimPrefix(p.Model.ID, "local:"))
	}
	if p.APIKey != nil {
		k.path(prefix+"api_key.from_file", p.APIKey.FromFile)
	}
	k.secretPaths(prefix+"env", p.Env)
	at := prefix + "provisioning."
	if b := p.Provisioning.Binary; b != nil {
		k.path(at+"binary.path", b.Path)
	}
	if s := p.Provisioning.Source; s != nil && !strings.Contains(s.Repo, "://") {
		k.path(at+"source.repo", s.Repo)
	}
	if o := p.Provisioning.Package; o != nil {
		k.path(at+"package.lock", o.Lock)
		k.path(at+"package.python", o.Python)
	}
	if box := p.Provisioning.Container; box != nil {
		k.path(at+"container.runtime_socket", box.RuntimeSocket)
		for i, v := range box.Volumes {
			k.path(fmt.Sprintf("%scontainer.volumes[%d]", at, i), v)
		}
	}
	if p.Custom != nil {
		k.program(prefix+"custom.command", p.Custom.Command)
	}
	for i, h := range p.Drain.Hooks {
		key := fmt.Sprintf("%sdrain.hooks[%d]", prefix, i)
		k.program(key+".command", h.Command)
		if h.HTTP != nil {
			k.secretPaths(key+".http.headers", h.HTTP.Headers)
		}
	}
}

// program checks the first word of a command: the others are the program's own affair.
func (k *Checker) program(key string, command []string) {
	if len(command) > 0 {
		k.path(key+"[0]", command[0])
	}
}

func (k *Checker) secretPaths(key string, values map[string]settings.EnvValue) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if s := values[name].Secret; s != nil {
			k.path(keys.Join(key, name), s.FromFile)
		}
	}
}

// variable is one of a shell, as in "$HOME/x", "${HOME}/x", "$(pwd)/x" and "`pwd`/x".
var variable = lazyregexp.New("\\$(\\{[^}]*\\}|\\([^)]*\\)|[A-Za-z_][A-Za-z0-9_]*)|`[^`]*`")

// path checks one path. A program may be handed a folder whose name has a "$"; who writes one into a file means a variable.
func (k *Checker) path(key, path string) {
	if k.Skipped(key) {
		return
	}
	bare := strings.TrimPrefix(path, "unix://")
	switch name := variable.FindString(path); {
	case strings.HasPrefix(bare, "~"):
		k.Report(key, "is %q, and ~ is not expanded; write the whole path", path)
	case name != "" && k.origin != nil:
		k.Report(key, "is %q, and %s is not expanded: the file means the same whoever reads it; write the whole path", path, name)
	}
}
