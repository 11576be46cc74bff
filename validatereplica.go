package provisioner

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/internal/keys"
)

// replica checks what no tag can say about one replica. prefix stands before its keys, such as "pools[0].".
func (k *checker) replica(prefix string, c ProvisionConfig) {
	e, known := k.options.engine(c.Engine)
	if !known {
		k.report(prefix+"engine", "%s", k.unknownEngine(c.Engine))
	}
	k.address(prefix, c)
	program := engine.Program{Model: engine.ModelGGUF, Release: &engine.Release{Tag: anyTag}, Image: engine.Image{Name: "any"}} // which takes the most
	if known {
		program = programOf(e, c)
	}
	k.model(prefix+"model.", c, program.Model)
	if c.Custom != nil && c.Engine != custom.Name {
		k.report(prefix+"custom", `belongs to the engine "custom", and this is %q; remove it, or change "engine"`, c.Engine)
	}
	k.provisioning(prefix+"provisioning", c.Provisioning, c.Engine, program)
	k.container(prefix, c, program.Image)
	k.environment(prefix, c.Env)
	if c.APIKey != nil && !k.unreadIn(prefix+"api_key") {
		if wrong := c.APIKey.wellFormed(); wrong != "" {
			k.report(prefix+"api_key", "%s", wrong)
		}
	}
	k.devices(prefix, c)
	k.durations(prefix, c)
	k.logs(prefix+"logs.", c.Logs)
	k.handoff(prefix+"handoff.", c.Handoff)
	k.drain(prefix, c)
	for i, flag := range c.Flags {
		if strings.ContainsRune(flag, 0) {
			k.report(fmt.Sprintf("%sflags[%d]", prefix, i), "holds a NUL character; remove it")
		}
	}
	if known && !k.skipped(strings.TrimSuffix(prefix, ".")) {
		k.launch(prefix, e, c)
	}
}

// anyTag is what the tags of an engine that is not known may look like.
var anyTag = regexp.MustCompile("")

// model checks the reference and its checksum.
func (k *checker) model(prefix string, c ProvisionConfig, kind engine.ModelKind) {
	switch key := prefix + "id"; {
	case strings.ContainsRune(c.Model.ID, 0):
		k.report(key, "holds a NUL character; remove it")
		return
	case c.Model.ID == "" && k.written(key):
		k.report(key, "is empty; %s", missing["model.id"])
		return
	case c.Model.ID == "" && kind != engine.ModelAny:
		k.report(key, "is missing; %s", missing["model.id"])
		return
	}
	ref, err := c.model(kind).Ref()
	if err != nil {
		k.report(prefix+"id", "%v", err)
	}
	switch sha256 := c.Model.SHA256; {
	case err != nil:
	case ref.URL == "" && (sha256 != "" || k.written(prefix+"sha256")):
		k.report(prefix+"sha256", "belongs to a model from an https URL alone; remove it")
	case ref.URL != "" && sha256 == "":
		k.report(prefix+"sha256", "is missing, and a file from a URL is not trusted without; write its checksum, as sha256sum prints it")
	case ref.URL != "" && !sha256Pattern.MatchString(sha256):
		k.report(prefix+"sha256", "must be 64 hexadecimal digits, is %q", sha256)
	}
}

// launch has the engine look at its own part: the flags. What is wrong with other keys does not hide what is wrong here, as
// far as it has no other reason than those.
func (k *checker) launch(prefix string, e Engine, c ProvisionConfig) {
	for _, key := range []string{"custom.command", "custom.env", "custom.key_env", "custom.metrics"} {
		if k.unreadIn(prefix + key) {
			return // without it, others look wrong
		}
	}
	if k.unreadIn(prefix + "flags") {
		c.Flags = nil // where one is missing, the others mean something else
	}
	if k.anyReported(prefix + "gpu") {
		c.GPU = GPUOptional // which no flag contradicts
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
			k.report(prefix+p.Key, "%s", p.Message)
		}
	default:
		k.report(prefix+"engine", "%q cannot be launched: %v", c.Engine, err)
	}
}

// takesKey makes sure that the engine takes the key that is configured. What is wrong with the flags shall not hide that.
func (k *checker) takesKey(prefix string, e Engine, c ProvisionConfig) {
	c.Flags, c.Env = nil, nil
	if spec, err := launchOf(e, c, engine.Host{}); err == nil && c.APIKey != nil && spec.KeyEnv == "" {
		k.report(prefix+"api_key", "%s takes no key by its environment, and other ways are open to every user of this machine; "+
			"put a proxy that asks for the key in front of it", c.Engine)
	}
}

func (k *checker) address(prefix string, c ProvisionConfig) {
	addr, err := netip.ParseAddr(c.Host)
	if err != nil || addr.Unmap().IsLoopback() {
		return
	}
	switch {
	case !c.Expose:
		k.report(prefix+"host", "other machines can reach %s; write \"expose: true\" and an api_key to allow that, "+
			"or use 127.0.0.1", c.Host)
	case c.APIKey == nil:
		k.report(prefix+"api_key", "is missing, and other machines can reach %s; write {from_env: NAME} or {from_file: PATH}",
			c.Host)
	}
}

func (k *checker) environment(prefix string, env map[string]EnvValue) {
	names := slices.Sorted(maps.Keys(env))
	for _, name := range names {
		key := keys.Join(prefix+"env", name)
		wrong := ""
		if secret := env[name].Secret; secret != nil && !k.unreadIn(key) {
			wrong = secret.wellFormed()
		}
		switch {
		case keys.BadVariable(name) != "":
			k.report(key, "%s", keys.BadVariable(name))
		case strings.ContainsRune(env[name].Value, 0):
			k.report(key, "holds a NUL character; remove it")
		case wrong != "":
			k.report(key, "%s", wrong)
		}
	}
}

func (k *checker) devices(prefix string, c ProvisionConfig) {
	key := prefix + "devices"
	switch {
	case c.GPU == GPUNone && len(c.Devices) > 0:
		k.report(key, `names GPUs while "gpu" is "none"; remove one of the two`)
	case len(c.Devices) == 0 && k.written(key):
		k.report(key, `is empty; name a GPU, remove the key to use all, or write "gpu: none"`)
	}
	if c.Devices.auto() {
		return
	}
	first := map[string]int{}
	for i, d := range c.Devices {
		at := fmt.Sprintf("%s[%d]", key, i)
		before, twice := first[strings.ToLower(string(d))]
		switch {
		case k.skipped(at):
		case d == autoDevice:
			k.report(at, `is "auto" beside others; write "devices: auto", or name them all`)
		case !devicePattern.MatchString(string(d)):
			k.report(at, `must be a GPU's index, such as 0, or its UUID, such as "GPU-…", is %q`, string(d))
		case twice:
			k.report(at, "names GPU %s again, like devices[%d]; remove one", d, before)
		default:
			first[strings.ToLower(string(d))] = i
		}
	}
}

func (k *checker) durations(prefix string, c ProvisionConfig) {
	for _, d := range []struct {
		key   string
		value Duration
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
	} {
		if d.value == 0 {
			continue
		}
		if wrong := keys.BadDuration(time.Duration(d.value)); wrong != "" {
			k.report(prefix+d.key, "%s", wrong)
		}
	}
}

// handoff checks what a value made in Go can be, and what does not go together.
func (k *checker) handoff(prefix string, c HandoffConfig) {
	switch {
	case c.Mode != "" && !slices.Contains(fileModes, c.Mode):
		k.report(prefix+"mode", "%s", badFileMode(c.Mode))
	case c.Group != "" && !groupPattern.MatchString(string(c.Group)):
		k.report(prefix+"group", `must be the name or number of a group of users, is %q`, string(c.Group))
	case c.Group != "" && c.Mode == "0600":
		k.report(prefix+"mode", `is "0600", so that the group may not read the file; leave it out, or the group`)
	}
}

func (k *checker) logs(prefix string, c LogsConfig) {
	if k.written(prefix+"keep") && c.Keep == 0 {
		k.report(prefix+"keep", "must be from 1 to 1000, is 0")
	}
	for _, s := range []struct {
		key   string
		value Size
	}{{"max_size", c.MaxSize}, {"max_pool_size", c.MaxPoolSize}} {
		if wrong := checkSize(s.value); s.value != 0 && wrong != "" {
			k.report(prefix+s.key, "%s", wrong)
		}
	}
	if all := c.withDefaults(); all.MaxPoolSize < all.MaxSize {
		k.report(prefix+"max_pool_size", "must be at least max_size, which is %s, is %s", all.MaxSize, all.MaxPoolSize)
	}
}
