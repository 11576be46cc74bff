package provisioner

import (
	_ "embed"
	"fmt"
	"slices"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
)

// configError makes an error of problems whose keys are relative to the replica, such as "flags[2]".
func (c ProvisionConfig) configError(problems ...Problem) *ConfigError {
	e := &ConfigError{}
	if c.origin != nil {
		e.File = c.origin.File
	}
	for _, p := range problems {
		e.Problems = append(e.Problems, locate(c.origin, p))
	}
	return e
}

// locate completes a problem whose key is relative to the origin.
func locate(o *config.Origin, p Problem) Problem { return Problem(o.Locate(config.Problem(p))) }

// Validate checks a configuration made in Go by the rules of [LoadConfig], which does so itself. Its error is a
// *[ConfigError] with all problems.
func (c *Config) Validate(opts ...Option) error {
	located := *c
	if c.origin == nil {
		located.origin = &config.Origin{}
	}
	k := newChecker(opts, located.origin)
	k.config(&located)
	return k.err()
}

// Validate checks one replica, by the rules of [LoadConfig] and without looking at the host. Its error is a
// *[ConfigError] with all problems. [New] does the same.
func (c ProvisionConfig) Validate(opts ...Option) error {
	k := newChecker(opts, c.origin)
	for _, id := range []struct{ key, value string }{{"PoolID", c.PoolID}, {"ReplicaID", c.ReplicaID}} {
		if wrong := config.BadID(id.value); wrong != "" {
			k.Report(id.key, "%s", wrong)
		}
	}
	for _, dir := range []struct{ key, value string }{{"StateDir", c.StateDir}, {"Dir", c.Dir}} {
		k.Text(dir.key, dir.value)
	}
	k.Fields(c, k.engines())
	k.replica("", c)
	return k.err()
}

// checker collects the problems of a configuration.
type checker struct {
	*config.Checker
	options options
	origin  *config.Origin
}

func newChecker(opts []Option, o *config.Origin) *checker {
	return &checker{Checker: config.New(o), options: newOptions(opts), origin: o}
}

// engines are the names of those that there are.
func (k *checker) engines() []string {
	names := make([]string, len(k.options.engines))
	for i, e := range k.options.engines {
		names[i] = e.Name()
	}
	return names
}

func (k *checker) err() error {
	problems := k.Problems()
	if len(problems) == 0 {
		return nil
	}
	e := &ConfigError{}
	if k.origin != nil {
		e.File = k.origin.File
	}
	for _, p := range problems {
		e.Problems = append(e.Problems, Problem(p))
	}
	return e
}

// config checks a whole file.
func (k *checker) config(c *Config) {
	if k.Skipped("") {
		return
	}
	k.Fields(*c, k.engines())
	k.StateDir("state_dir", c.StateDir)
	first := map[string]int{}
	var replicas []ProvisionConfig
	for i, p := range c.Pools {
		key := fmt.Sprintf("pools[%d]", i)
		if k.Written(key+".replicas") && p.Replicas == 0 {
			k.Report(key+".replicas", "must be from 1 to 256, is 0; remove the pool to run none of it")
		}
		if before, twice := first[p.ID]; twice {
			k.Report(key+".id", "is %q like that of pools[%d]; give each pool an id of its own", p.ID, before)
		} else {
			first[p.ID] = i
		}
		last := p.Port + max(1, p.Replicas) - 1
		if last > 65535 && p.Port <= 65535 {
			k.Report(key+".port", "%d replicas from port %d on need the ports up to %d, beyond 65535; begin lower",
				p.Replicas, p.Port, last)
		}
		if !k.Reported(key+".id", key+".port", key+".replicas") {
			for r := range max(1, p.Replicas) {
				replicas = append(replicas, c.replica(i, r))
			}
		}
		k.replica(key+".", c.replica(i, 0))
	}
	for _, p := range k.options.beside(replicas) {
		k.Report(p.Key, "%s", p.Message)
	}
}

// beside finds replicas that cannot run beside each other. The key of a problem counts from the file, or says which element of
// the slice it is about.
func (o *options) beside(replicas []ProvisionConfig) []Problem {
	members, sides := make([]config.Member, len(replicas)), o.sidePorts(replicas)
	for i, c := range replicas {
		members[i] = config.Member{
			Pool: c.PoolID, Name: c.Name(), StateDir: c.StateDir, Stem: c.fileStem(), Group: string(c.Handoff.Group),
			Origin: c.origin, Port: c.Port, Sides: sides[i],
		}
	}
	var problems []Problem
	for _, p := range config.Beside(members) {
		problems = append(problems, Problem(p))
	}
	return problems
}

// sidePorts are the ports of each replica beside the configured one. Most engines have none, which one replica of a pool
// tells for all: a launch takes some ten microseconds to be described, and there can be 65535.
func (o *options) sidePorts(replicas []ProvisionConfig) [][]engine.Port {
	all := make([][]engine.Port, len(replicas))
	has := map[[2]string]bool{}
	for i, c := range replicas {
		pool := [2]string{c.PoolID, c.Engine}
		e, known := o.engine(c.Engine)
		if some, asked := has[pool]; !known || asked && !some {
			continue
		}
		spec, _ := describe(e, c.WithDefaults(), engine.Host{}) // what is wrong with it is told elsewhere
		all[i], has[pool] = spec.Ports, len(spec.Ports) > 0
	}
	return all
}

// ValidateReplicas checks each replica, and that they can run beside each other on one node: no two of them may have the
// same port or files. The error is a *ConfigError.
func ValidateReplicas(cfgs []ProvisionConfig, opts ...Option) error {
	o := newOptions(opts)
	if problems := o.beside(cfgs); len(problems) > 0 {
		return &ConfigError{Problems: problems}
	}
	for _, cfg := range cfgs {
		if err := cfg.Validate(opts...); err != nil {
			return err
		}
	}
	return nil
}

// Warnings says what a valid configuration may suffer from on this host, which keeps no engine from starting. It looks at
// the kernel's settings and at no other thing of the host.
//
// It knows ports that the kernel gives to clients' connections, and what engines note of flags: those that can be judged by
// an executable alone, which it does not look for.
func (c *Config) Warnings(opts ...Option) []Problem {
	ports, o := ephemeral.OfKernel(), newOptions(opts)
	var all []Problem
	for i, pool := range c.Pools {
		for port := pool.Port; port < pool.Port+max(pool.Replicas, 1); port++ {
			if note := ports.Note(port); note != "" {
				all = append(all, locate(c.origin, Problem{Key: fmt.Sprintf("pools[%d].port", i), Message: note}))
				break // the others of the pool are its neighbours
			}
		}
		cfg := c.replica(i, 0)
		if e, known := o.engine(cfg.Engine); known {
			spec, _ := describe(e, cfg, engine.Host{}) // what is wrong with it, Validate tells
			all = append(all, cfg.notes(spec)...)
		}
	}
	return all
}

// notes are those of an engine on its flags, as problems of the file.
func (c ProvisionConfig) notes(spec engine.LaunchSpec) []Problem {
	var all []Problem
	for _, n := range spec.Notes {
		all = append(all, locate(c.origin, Problem{Key: n.Key, Message: n.Message}))
	}
	return all
}

// configSchema is generated from the types of config.go and their comments; a test keeps it current.
//
//go:embed config.schema.json
var configSchema []byte

// ConfigSchema returns the JSON Schema (draft 2020-12) of a pools file, for editors and other tools. It describes the
// file's shape; what depends on two keys at once, such as ports that clash, only [LoadConfig] finds.
func ConfigSchema() ([]byte, error) { return slices.Clone(configSchema), nil }
