package workload

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/settings"
)

// Secret is one that the pool names: a variable, or a file.
type Secret struct {
	Env  string // the variable's name; "" for a file
	File string // its name in SecretDir
	Key  string // "api_key", or the configuration's other key, for people
}

// secrets are those that the pool names, by the place that holds them there.
func (w *Workload) secrets() {
	c := &w.Pool.ProvisionConfig
	take := func(key string, ref *settings.SecretRef) *settings.SecretRef {
		s := Secret{Env: ref.FromEnv, Key: key}
		copied := *ref
		if ref.FromFile != "" {
			s.File = Label(strings.NewReplacer(".", "-", "[", "-", "]", "").Replace(key))
			copied.FromFile = path.Join(SecretDir, s.File)
		}
		if !slices.ContainsFunc(w.Secrets, func(t Secret) bool { return t.Env == s.Env && t.File == s.File }) {
			w.Secrets = append(w.Secrets, s)
		}
		return &copied
	}
	if c.APIKey != nil {
		c.APIKey = take("api_key", c.APIKey)
	}
	values := func(key string, all map[string]settings.EnvValue) map[string]settings.EnvValue {
		if all == nil {
			return nil
		}
		copied := map[string]settings.EnvValue{}
		for _, name := range sorted(all) {
			value := all[name]
			if value.Secret != nil {
				value.Secret = take(key+"."+name, value.Secret)
			}
			copied[name] = value
		}
		return copied
	}
	c.Env = values("env", c.Env)
	c.Drain.Hooks = slices.Clone(c.Drain.Hooks)
	for i, h := range c.Drain.Hooks {
		if h.HTTP != nil {
			http := *h.HTTP
			http.Headers = values(fmt.Sprintf("drain.hooks[%d]", i), http.Headers)
			c.Drain.Hooks[i].HTTP = &http
		}
	}
}

// secretVariables are the variables that hold secrets; files are where they are.
func (w *Workload) secretVariables() {
	same := w.Pool
	w.secrets()
	w.Pool, w.Secrets = same, w.Variables()
}

// Files are the secrets that are read from files.
func (w Workload) Files() []Secret {
	return slices.DeleteFunc(slices.Clone(w.Secrets), func(s Secret) bool { return s.File == "" })
}

// Variables are the secrets that are read from variables.
func (w Workload) Variables() []Secret {
	return slices.DeleteFunc(slices.Clone(w.Secrets), func(s Secret) bool { return s.Env == "" })
}
