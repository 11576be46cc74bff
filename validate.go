package provisioner

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/ephemeral"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/settings"
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
	k.Empty(*c)
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
			Origin: c.origin, Port: c.Port, Sides: sides[i], Needs: c.Needs,
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
		for _, note := range config.OpenNotes(cfg.Host, cfg.Expose, cfg.APIKey != nil) {
			all = append(all, locate(c.origin, Problem{Key: fmt.Sprintf("pools[%d].host", i), Message: note}))
		}
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

// replica checks what no tag can say about one replica. prefix stands before its keys, such as "pools[0].".
func (k *checker) replica(prefix string, c ProvisionConfig) {
	e, known := k.options.engine(c.Engine)
	if !known {
		k.Report(prefix+"engine", "%s", config.UnknownEngine(c.Engine, k.engines()))
	}
	k.Address(prefix, c.Host, c.Expose, c.APIKey != nil)
	k.Advertise(prefix, c.Advertise, c.Host)
	program := engine.Program{Model: engine.ModelGGUF, Release: &engine.Release{Tag: anyTag.Compiled()}, Image: engine.Image{Name: "any"}} // which takes the most
	if known {
		program = programOf(e, c)
	}
	model := c.model(program.Model)
	k.Paths(prefix, config.Pointers{
		Model: model, APIKey: c.APIKey, Env: c.Env, Provisioning: c.Provisioning, Custom: c.Custom, Drain: c.Drain,
	})
	k.Model(prefix+"model.", model)
	if c.Custom != nil && c.Engine != custom.Name {
		k.Report(prefix+"custom", `belongs to the engine "custom", and this is %q; remove it, or change "engine"`, c.Engine)
	}
	k.Provisioning(prefix+"provisioning", c.Provisioning, c.Engine, program)
	k.container(prefix, c, program.Image)
	k.Environment(prefix+"env", c.Env, gpu.Policy(c.GPU), c.Devices)
	k.Inherited(prefix+"inherit_env", c.InheritEnv)
	if c.APIKey != nil {
		k.Secret(prefix+"api_key", *c.APIKey)
	}
	k.Devices(prefix+"devices", c.Devices, gpu.Policy(c.GPU))
	k.Ready(prefix+"ready.", c.Ready)
	k.Restart(prefix+"restart.", c.Restart)
	k.Liveness(prefix+"liveness.", c.Liveness)
	k.Stop(prefix, c.Stop, c.Drain)
	k.Duration(prefix+"download.timeout", c.Download.Timeout)
	k.Logs(prefix+"logs.", c.Logs)
	k.Size(prefix+"download.min_per_minute", c.Download.MinPerMinute)
	k.Handoff(prefix+"handoff.", c.Handoff)
	k.Drain(prefix+"drain.", c.Drain, c.hooked())
	for i, flag := range c.Flags {
		k.Text(fmt.Sprintf("%sflags[%d]", prefix, i), flag)
	}
	if known && !k.Skipped(strings.TrimSuffix(prefix, ".")) {
		k.launch(prefix, e, c)
	}
}

// container checks what is said of a container.
func (k *checker) container(prefix string, c ProvisionConfig, own engine.Image) {
	if !c.contained() {
		return
	}
	if c.tied() {
		k.Report(prefix+"on_manager_exit", `is "kill", which cannot be done to a container; remove the key`)
	}
	box := settings.Container{}
	if b := c.Provisioning.Container; b != nil {
		box = *b
	}
	k.Container(prefix+"provisioning.container.", box, own)
}

// anyTag is what the tags of an engine that is not known may look like.
var anyTag = lazyregexp.New("")

// launch has the engine look at its own part: the flags. What is wrong with other keys does not hide what is wrong here, as
// far as it has no other reason than those.
func (k *checker) launch(prefix string, e Engine, c ProvisionConfig) {
	for _, key := range []string{"custom.command", "custom.env", "custom.key_env", "custom.metrics"} {
		if k.UnreadIn(prefix + key) {
			return // without it, others look wrong
		}
	}
	if k.UnreadIn(prefix + "flags") {
		c.Flags = nil // where one is missing, the others mean something else
	}
	if k.Reported(prefix + "gpu") {
		c.GPU = engine.GPUOptional // which no flag contradicts
	}
	c = c.WithDefaults()
	c.origin = nil // the keys of its problems shall be relative
	_, err := launchOf(e, c, engine.Host{})
	k.takesKey(prefix, e, c)
	var wrong *ConfigError
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		for _, p := range wrong.Problems {
			k.Report(prefix+p.Key, "%s", p.Message)
		}
	default:
		k.Report(prefix+"engine", "%q cannot be launched: %v", c.Engine, err)
	}
}

// takesKey makes sure that the engine takes the key that is configured. What is wrong with the flags shall not hide that.
func (k *checker) takesKey(prefix string, e Engine, c ProvisionConfig) {
	c.Flags, c.Env = nil, nil
	if spec, err := launchOf(e, c, engine.Host{}); err == nil && c.APIKey != nil && spec.KeyEnv == "" {
		k.Report(prefix+"api_key", "%s takes no key by its environment, and other ways are open to every user of this machine; "+
			"put a proxy that asks for the key in front of it", c.Engine)
	}
}
