package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/advertise"
	"github.com/llama-orch/engine-provisioner/internal/environ"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
	"github.com/llama-orch/engine-provisioner/internal/keys"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/internal/values"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Text checks a text that can hold anything but a NUL character.
func (k *Checker) Text(key, text string) {
	if strings.ContainsRune(text, 0) {
		k.Report(key, "holds a NUL character; remove it")
	}
}

// StateDir checks the folder of the state.
func (k *Checker) StateDir(key, dir string) {
	k.Text(key, dir)
	k.path(key, dir)
}

// Duration checks a time; 0 stands for one that was left out.
func (k *Checker) Duration(key string, d settings.Duration) {
	if d != 0 {
		k.wrong(key, keys.BadDuration(time.Duration(d)))
	}
}

// Size checks a size; 0 is one that was left out.
func (k *Checker) Size(key string, bytes settings.Size) {
	if bytes != 0 {
		k.wrong(key, values.BadSize(int64(bytes)))
	}
}

// Secret checks a reference.
func (k *Checker) Secret(key string, s settings.SecretRef) {
	if !k.UnreadIn(key) {
		k.wrong(key, badSecret(s))
	}
}

// Model checks the reference to a model and its checksum.
func (k *Checker) Model(prefix string, m models.Request) {
	switch key := prefix + "id"; {
	case strings.ContainsRune(m.ID, 0):
		k.Report(key, "holds a NUL character; remove it")
		return
	case m.ID == "" && k.Written(key):
		k.Report(key, "is empty; %s", missing["model.id"])
		return
	case m.ID == "" && (m.Kind != models.Kind(engine.ModelAny) || k.Written(strings.TrimSuffix(prefix, "."))):
		k.Report(key, "is missing; %s", missing["model.id"])
		return
	}
	ref, err := m.Ref()
	if err != nil {
		k.Report(prefix+"id", "%v", err)
	}
	switch {
	case err != nil:
	case ref.URL == "" && (m.SHA256 != "" || k.Written(prefix+"sha256")):
		k.Report(prefix+"sha256", "belongs to a model from an https URL alone; remove it")
	case ref.URL != "" && m.SHA256 == "":
		k.Report(prefix+"sha256", "is missing, and a file from a URL is not trusted without; write its checksum, as sha256sum prints it")
	case ref.URL != "" && !sha256Text.MatchString(m.SHA256):
		k.Report(prefix+"sha256", "must be 64 hexadecimal digits, is %q", m.SHA256)
	}
}

// Address checks that nobody is let in by oversight.
func (k *Checker) Address(prefix, host string, expose settings.Expose, hasKey bool) {
	switch {
	case expose != "" && expose != settings.ExposeKeyed && expose != settings.ExposeOpen:
		k.Report(prefix+"expose", "must be true, false or %q, is %q", settings.ExposeOpen, string(expose))
	case !reachable(host):
	case expose == "":
		k.Report(prefix+"host", "other machines can reach %s; write \"expose: true\" and an api_key to allow that, "+
			"or use 127.0.0.1", host)
	case expose == settings.ExposeKeyed && !hasKey:
		k.Report(prefix+"api_key", "is missing, and other machines can reach %s; write {from_env: NAME} or {from_file: PATH}, "+
			"or \"expose: open\" where a gateway before it asks for the key", host)
	}
}

// Advertise checks how others are told to reach a replica.
func (k *Checker) Advertise(prefix, host, listens string) {
	switch bad := advertise.Bad(host); {
	case host == "" && !k.Written(prefix+"advertise"):
	case bad != "":
		k.Report(prefix+"advertise", "%s", bad)
	case !reachable(listens):
		k.Report(prefix+"advertise", "is %q, and the engine listens where no other machine reaches it; write \"host: 0.0.0.0\" and \"expose\", or remove the key", host)
	}
}

// LocalNotes say that a handoff names an address that other machines do not reach, though it is shared with them, or the engine
// listens for them.
func LocalNotes(host, advertised, shared string) []string {
	if shared != "" && advertised == "" {
		return []string{`handoff.dir: the copy for other nodes names an address of this machine alone: write "advertise", and "host" and "expose" where the engine listens on this machine alone`}
	}
	if addr, err := netip.ParseAddr(host); err != nil || !addr.IsUnspecified() || advertised != "" {
		return nil
	}
	return []string{fmt.Sprintf("host: its handoff names an address of this machine alone, though %s is for others: write \"advertise\" if others read it", host)}
}

// OpenNotes are what is to be known of a replica that everybody can use.
func OpenNotes(host string, expose settings.Expose, hasKey bool) []string {
	if !reachable(host) || expose != settings.ExposeOpen || hasKey {
		return nil
	}
	return []string{fmt.Sprintf("expose: open: other machines can reach %s, and no key is asked for: whoever reaches the port can use the engine", host)}
}

// reachable reports whether other machines reach host, which may be no address.
func reachable(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && !addr.Unmap().IsLoopback()
}

// Environment checks the variables of an engine that is to use devices.
func (k *Checker) Environment(prefix string, env map[string]settings.EnvValue, policy gpu.Policy, devices settings.Devices) {
	// The engine's own names are of the devices that the variables let it see.
	byUs := slices.ContainsFunc(devices, func(d settings.Device) bool { return !values.IsListed(string(d)) })
	for _, name := range slices.Sorted(maps.Keys(env)) {
		key, value := keys.Join(prefix, name), env[name]
		ofGPU := gpu.Decides(name)
		switch {
		case keys.BadVariable(name) != "" && !(ofGPU && policy == gpu.Unmanaged):
			k.Report(key, "%s", keys.BadVariable(name))
		case ofGPU && policy == gpu.None:
			k.Report(key, `may not be set while "gpu" is "none", which hides all GPUs; remove one of the two`)
		case ofGPU && byUs:
			k.Report(key, `may not be set beside "devices", which decides the same; remove one of the two`)
		case strings.ContainsRune(value.Value, 0):
			k.Report(key, "holds a NUL character; remove it")
		case value.Secret != nil:
			k.Secret(key, *value.Secret)
		}
	}
}

// Inherited checks the variables that are chosen of this program's own.
func (k *Checker) Inherited(key string, patterns []string) {
	for i, p := range patterns {
		if bad := environ.BadPattern(p); bad != "" {
			k.Report(fmt.Sprintf("%s[%d]", key, i), "%s", bad)
		}
	}
}

// Devices checks the GPUs that are named.
func (k *Checker) Devices(key string, devices settings.Devices, policy gpu.Policy) {
	switch {
	case (policy == gpu.None || policy == gpu.Unmanaged) && len(devices) > 0:
		k.Report(key, `names GPUs while "gpu" is %q; remove one of the two`, string(policy))
	case len(devices) == 0 && k.Written(key):
		k.Report(key, `is empty; name a GPU, remove the key to use all, or write "gpu: none"`)
	}
	if devices.Auto() {
		return
	}
	first := map[string]int{}
	for i, d := range devices {
		at := fmt.Sprintf("%s[%d]", key, i)
		before, twice := first[strings.ToLower(string(d))]
		switch {
		case k.Skipped(at):
		case d == values.AutoDevice:
			k.Report(at, `is "auto" beside others; write "devices: auto", or name them all`)
		case !values.IsDevice(string(d)):
			k.Report(at, `must be a GPU's index, such as 0, its UUID, such as "GPU-…", or its PCI address, is %q`, d)
		case twice:
			k.Report(at, "names GPU %s again, like devices[%d]; remove one", d, before)
		default:
			first[strings.ToLower(string(d))] = i
		}
	}
}

// Handoff checks what a value made in Go can be, and what does not go together.
func (k *Checker) Handoff(prefix string, c settings.Handoff) {
	switch mode, group := string(c.Mode), string(c.Group); {
	case mode != "" && !values.IsFileMode(mode):
		k.Report(prefix+"mode", "%s", values.BadFileMode(mode))
	case group != "" && !values.IsGroup(group):
		k.Report(prefix+"group", `must be the name or number of a group of users, is %q`, group)
	case group != "" && mode == "0600":
		k.Report(prefix+"mode", `is "0600", so that the group may not read the file; leave it out, or the group`)
	}
	k.path(prefix+"dir", c.Dir)
	switch {
	case c.Dir == "" && k.Written(prefix+"dir"):
		k.Report(prefix+"dir", "is empty; write a folder that nodes share, or remove the key")
	case c.TTL == 0 && !k.Written(prefix+"ttl"):
	case c.Dir == "":
		k.Report(prefix+"ttl", `is about the copy of "handoff.dir", which is not there; remove it, or write that`)
	case c.TTL > 0 && time.Duration(c.TTL) < leastLease:
		k.Report(prefix+"ttl", "must be at least 3s, is %s", c.TTL)
	default:
		k.Duration(prefix+"ttl", c.TTL)
	}
}

// leastLease is three looks at a launch: a lease is renewed every third of it.
const leastLease = 3 * time.Second

// Logs checks what was written, and what it is with what was left out.
func (k *Checker) Logs(prefix string, c settings.Logs) {
	all := c.WithDefaults()
	if k.Written(prefix+"keep") && c.Keep == 0 {
		k.Report(prefix+"keep", "must be from 1 to 1000, is 0")
	}
	for _, s := range []struct {
		key   string
		value settings.Size
	}{{"max_size", c.MaxSize}, {"max_pool_size", c.MaxPoolSize}} {
		k.Size(prefix+s.key, s.value)
	}
	if all.MaxPoolSize < all.MaxSize {
		k.Report(prefix+"max_pool_size", "must be at least max_size, which is %s, is %s", all.MaxSize, all.MaxPoolSize)
	}
}
