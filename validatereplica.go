package provisioner

import (
	"errors"
	"fmt"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/lazyregexp"
	"github.com/llama-orch/engine-provisioner/settings"
)

// replica checks what no tag can say about one replica. prefix stands before its keys, such as "pools[0].".
func (k *checker) replica(prefix string, c ProvisionConfig) {
	e, known := k.options.engine(c.Engine)
	if !known {
		k.Report(prefix+"engine", "%s", config.UnknownEngine(c.Engine, k.engines()))
	}
	k.Address(prefix, c.Host, c.Expose, c.APIKey != nil)
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
	if c.APIKey != nil {
		k.Secret(prefix+"api_key", *c.APIKey)
	}
	k.Devices(prefix+"devices", c.Devices, gpu.Policy(c.GPU))
	k.durations(prefix, c)
	k.Logs(prefix+"logs.", c.Logs)
	k.Size(prefix+"download.min_per_minute", c.Download.MinPerMinute)
	k.Handoff(prefix+"handoff.", string(c.Handoff.Mode), string(c.Handoff.Group))
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

func (k *checker) durations(prefix string, c ProvisionConfig) {
	for _, d := range []struct {
		key   string
		value settings.Duration
	}{
		{"ready.stall", c.Ready.Stall},
		{"ready.timeout", c.Ready.Timeout},
		{"ready.request_timeout", c.Ready.RequestTimeout},
		{"restart.initial_delay", c.Restart.InitialDelay},
		{"restart.max_delay", c.Restart.MaxDelay},
		{"restart.stable_after", c.Restart.StableAfter},
		{"restart.cooldown", c.Restart.Cooldown},
		{"restart.cooldown_max", c.Restart.CooldownMax},
		{"liveness.period", c.Liveness.Period},
		{"liveness.timeout", c.Liveness.Timeout},
		{"liveness.wedged_after", c.Liveness.WedgedAfter},
		{"liveness.token_period", c.Liveness.TokenPeriod},
		{"liveness.token_timeout", c.Liveness.TokenTimeout},
		{"stop.grace", c.Stop.Grace},
		{"download.timeout", c.Download.Timeout},
	} {
		k.Duration(prefix+d.key, d.value)
	}
}
