package provisioner

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/perform"
	"github.com/llama-orch/engine-provisioner/internal/secret"
	"github.com/llama-orch/engine-provisioner/internal/state"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Config is a pools file. Load one with [LoadConfig]; its zero value describes no pool and is not valid. It is plain
// data: safe to read from several goroutines, and it encodes to JSON that loads again.
type Config struct {
	// StateDir is where records, logs and handoff files live, relative to the file's folder. Left out, it is ".runtime"
	// in the working directory.
	StateDir string `json:"state_dir,omitempty"`
	// Pools are the groups of equal replicas to run on this node.
	Pools []Pool `json:"pools" validate:"required,min=1,max=256,dive"`

	origin *config.Origin
}

// Pool is a number of equal replicas: replica k is named "rk" and listens on Port+k.
type Pool struct {
	// ID names the pool: lower-case letters, digits, "-" and "_", at most 63, beginning and ending with a letter or digit.
	ID string `json:"id" validate:"required,id"`
	// Replicas is how many there are, 1 to 256. Left out (in Go: 0), it is 1.
	Replicas int `json:"replicas,omitempty" validate:"min=0,max=256"`

	ProvisionConfig
}

// ProvisionConfig is everything about one replica. Get those of a pools file from [Config.Replicas], or make one in
// Go. It is plain data; a copy shares the slices and the map of the original, so change those of neither.
type ProvisionConfig struct {
	// PoolID and ReplicaID name the replica. They take the grammar of Pool.ID; in a pools file they follow from the pool.
	PoolID    string `json:"-"`
	ReplicaID string `json:"-"`
	// StateDir is where the record, the logs and the handoff file live; "" means ".runtime".
	StateDir string `json:"-"`
	// Dir is the folder that relative paths (model, binary, key file, and those in flags) refer to, and the engine's
	// working directory. "" means the working directory; LoadConfig sets the file's folder.
	Dir string `json:"-"`

	// Engine names the kind of engine: "llamacpp", "vllm", "sglang", "tgi", "custom" for a server that Custom describes, or
	// one that was added with WithEngine.
	Engine string `json:"engine" validate:"required,id"`
	// Host is the IP address to listen on. Left out, it is 127.0.0.1. Any other than a loopback address needs "expose".
	Host string `json:"host,omitempty" validate:"omitempty,ip"`
	// Expose allows a "host" that other machines can reach: true, with an "api_key", or "open", without: behind a gateway. Left out: false.
	Expose settings.Expose `json:"expose,omitempty"`
	// Advertise is the name or address by which others reach the replica, for the URL in its handoff; "{hostname}", "{pod_ip}" (the
	// variable POD_IP) and "{interface:NAME}" stand for what they are at the start. Left out, the URL has the address that this
	// machine reaches it by.
	Advertise string `json:"advertise,omitempty"`
	// Port is the first replica's TCP port, 1 to 65535; replica k listens on port+k.
	Port int `json:"port" validate:"required,min=1,max=65535"`
	// Model is the model to serve. The engine "custom" can do without.
	Model settings.Model `json:"model,omitzero"`
	// Flags are passed to the engine, one element of its command line each. Names of old are rewritten, and defaults
	// are added where no flag says otherwise; see NormalizeFlags.
	Flags settings.Flags `json:"flags,omitempty"`
	// Defaults says whose defaults hold where no flag says anything: "provisioner" or "engine". With "engine" only what other
	// keys decide is added to Flags. Left out, it is "provisioner".
	Defaults string `json:"defaults,omitempty" validate:"omitempty,oneof=provisioner engine"`
	// Env is added to the engine's environment, which otherwise is a short allowlist of the provisioner's. What other
	// keys decide may not be set here: CUDA_VISIBLE_DEVICES never but with "gpu: unmanaged", variables of other vendors not
	// beside Devices or "gpu: none".
	Env map[string]settings.EnvValue `json:"env,omitempty"`
	// InheritEnv are names, or beginnings such as "UCX_*", of variables of the provisioner's that the engine gets, too; never secrets.
	InheritEnv []string `json:"inherit_env,omitempty" validate:"max=64"`
	// APIKey is where the key that clients must present comes from. Left out, the engine asks for none.
	APIKey *settings.SecretRef `json:"api_key,omitempty"`
	// GPU says whether a GPU must be used: "required", "optional" or "none"; "unmanaged" leaves it to Flags and Env. Left out,
	// it is "required".
	GPU engine.GPUPolicy `json:"gpu,omitempty" validate:"omitempty,oneof=required optional none unmanaged"`
	// Devices are the GPUs that the replica may use, by index (in PCI bus order), UUID, PCI address, or the name by which the
	// engine's executable lists one. "auto" chooses as few as have enough free memory. Left out, it is all of one vendor.
	Devices settings.Devices `json:"devices,omitempty"`
	// Fit says what a start does when the model needs more memory than is free, by estimate: "warn", "require" (fail before
	// the load) or "off". Left out, it is "warn".
	Fit string `json:"fit,omitempty" validate:"omitempty,oneof=warn require off"`
	// Provisioning says where the engine's executable comes from.
	Provisioning settings.Provisioning `json:"provisioning,omitzero"`
	// Custom describes the server of the engine "custom".
	Custom *settings.Custom `json:"custom,omitempty"`
	// Ready says when the replica counts as ready.
	Ready settings.Ready `json:"ready,omitzero"`
	// Restart says what a fleet does when the engine ends unasked.
	Restart settings.Restart `json:"restart,omitzero"`
	// Liveness says how a fleet notices that the engine hangs.
	Liveness settings.Liveness `json:"liveness,omitzero"`
	// Drain says how requests in flight are waited for before a ready replica is stopped.
	Drain settings.Drain `json:"drain,omitzero"`
	// Stop says how the replica is stopped.
	Stop settings.Stop `json:"stop,omitzero"`
	// Needs are the pools whose replicas must be ready before a fleet starts this one, which is ended before they are.
	Needs []string `json:"needs,omitempty" validate:"max=16"`
	// OnLoss is "restart" or "ignore": what a fleet does when one that it needs ends. Left out, it is "restart", once that is ready again.
	OnLoss string `json:"on_loss,omitempty" validate:"omitempty,oneof=restart ignore"`
	// OnManagerExit is "adopt" or "kill": whether the engine outlives the program that started it, for the next one to
	// adopt, or is killed with it, however that ends (Linux only). Left out, it is "adopt". With "kill", a program that is
	// killed takes the main process alone: workers that do not end by themselves stay until the next one, or a stop.
	OnManagerExit string `json:"on_manager_exit,omitempty" validate:"omitempty,oneof=adopt kill"`
	// Download says how slow downloads may be.
	Download settings.Download `json:"download,omitzero"`
	// Logs says how much of the engines' output is kept.
	Logs settings.Logs `json:"logs,omitzero"`
	// Handoff says who may read the handoff file beside the user that this runs as.
	Handoff settings.Handoff `json:"handoff,omitzero"`

	origin *config.Origin
}

// LoadConfig reads a pools file: one YAML or JSON document of at most 1 MiB. It is strict: unknown, repeated and
// mistyped keys are errors. Everything that is wrong comes back in one *[ConfigError], in the order of the file; only
// a very long list is cut. Of opts, those matter that add an engine.
//
// Nothing but the file itself is looked at: whether the model or the executable exists is found out by the start.
func LoadConfig(path string, opts ...Option) (*Config, error) {
	data, err := config.ReadFile(path)
	if err != nil {
		return nil, &ConfigError{File: path, Problems: []Problem{{Message: err.Error()}}, err: err}
	}
	return ParseConfig(data, path, opts...)
}

// ParseConfig is [LoadConfig] on data that was read from file. The name stands in errors, and its folder is what
// relative paths refer to; "" means that there is no file, and the working directory is that folder.
func ParseConfig(data []byte, file string, opts ...Option) (*Config, error) {
	from, err := config.OriginOf(file)
	if err != nil {
		return nil, err
	}
	c := &Config{origin: from}
	k := newChecker(opts, from)
	if !k.Decode(data, c) {
		return nil, k.err()
	}
	for i := range c.Pools {
		c.Pools[i].Dir = from.Dir
	}
	from.Secrets = secret.References(c)
	k.config(c)
	err = k.err()
	if is := config.Foreign(data, file); err != nil && is != "" {
		return nil, &ConfigError{File: file, Problems: []Problem{{Message: is}}}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// File returns the absolute path of the file that the configuration was read from; "" when there is none.
func (c *Config) File() string {
	if c.origin == nil || c.origin.File == "" {
		return ""
	}
	return filepath.Join(c.origin.Dir, filepath.Base(c.origin.File))
}

// Replicas returns the replicas of a pool, or of all pools for "", in the order of the file and then of their ports.
func (c *Config) Replicas(pool string) ([]ProvisionConfig, error) {
	var all []ProvisionConfig
	ids := make([]string, len(c.Pools))
	found := pool == ""
	for i, p := range c.Pools {
		ids[i] = p.ID
		if pool != "" && pool != p.ID {
			continue
		}
		found = true
		for r := range max(1, p.Replicas) {
			all = append(all, c.replica(i, r))
		}
	}
	if !found {
		return nil, config.UnknownPool(pool, ids)
	}
	return all, nil
}

// replica is number r of the pool at index i.
func (c *Config) replica(i, r int) ProvisionConfig {
	p := c.Pools[i]
	cfg := p.ProvisionConfig
	cfg.PoolID = p.ID
	cfg.ReplicaID = fmt.Sprintf("r%d", r)
	cfg.Port = p.Port + r
	cfg.StateDir = defaultStateDir
	if c.StateDir != "" {
		cfg.StateDir = c.StateDir
		if c.origin != nil && !filepath.IsAbs(c.StateDir) {
			cfg.StateDir = filepath.Join(c.origin.Dir, c.StateDir)
		}
	}
	cfg.origin = c.origin.Inside(fmt.Sprintf("pools[%d]", i))
	return cfg
}

// Name returns "pool/replica", as people and logs call it.
func (c ProvisionConfig) Name() string { return c.PoolID + "/" + c.ReplicaID }

// ID returns the replica's name.
func (c ProvisionConfig) ID() ReplicaID { return ReplicaID{c.PoolID, c.ReplicaID} }

// fileStem is the replica's part in the names of its files.
func (c ProvisionConfig) fileStem() string { return state.Stem(c.PoolID, c.ReplicaID) }

// resolve makes a path of the configuration relative to its folder.
func (c ProvisionConfig) resolve(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(c.Dir, path)
}

const defaultStateDir = ".runtime"

// WithDefaults fills in what was left out, as [New] does. The stop's grace stays: its default is the engine's.
func (c ProvisionConfig) WithDefaults() ProvisionConfig {
	c.StateDir = cmp.Or(c.StateDir, defaultStateDir)
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.GPU = cmp.Or(c.GPU, engine.GPURequired)
	c.Fit = cmp.Or(c.Fit, "warn")
	c.Provisioning.Mode = cmp.Or(c.Provisioning.Mode, "binary")
	c.Ready = c.Ready.WithDefaults()
	c.OnManagerExit, c.OnLoss = cmp.Or(c.OnManagerExit, "adopt"), cmp.Or(c.OnLoss, "restart")
	c.Restart = c.Restart.WithDefaults()
	c.Liveness = c.Liveness.WithDefaults()
	c.Drain = c.Drain.WithDefaults()
	c.Download = c.Download.WithDefaults()
	c.Logs = c.Logs.WithDefaults()
	return c
}

// contained reports whether the engine runs in a container.
func (c ProvisionConfig) contained() bool { return c.Provisioning.Mode == perform.ModeContainer }

// pullsAlways reports whether a start asks the registry, whatever is there.
func (c ProvisionConfig) pullsAlways() bool {
	return c.contained() && c.Provisioning.Container != nil && c.Provisioning.Container.Pull == "always"
}

// bridged reports whether the engine has a network of its own, so that its port is published.
func (c ProvisionConfig) bridged() bool {
	return c.contained() && (c.Provisioning.Container == nil || c.Provisioning.Container.Network != "host")
}

// inside is the configuration as the engine sees it: one with a network of its own listens on all of its addresses, and
// what is published of it is another matter.
func (c ProvisionConfig) inside() ProvisionConfig {
	if c.bridged() {
		c.Host = "0.0.0.0"
	}
	return c
}

// executableKey is the key that decides on the executable.
func (c ProvisionConfig) executableKey() string {
	if c.Custom != nil && c.Provisioning.Binary == nil && c.Provisioning.Mode == "binary" {
		return "custom.command[0]"
	}
	return "provisioning." + c.Provisioning.Mode
}

// tied reports whether the engine is killed with the program that started it.
func (c ProvisionConfig) tied() bool { return c.OnManagerExit == "kill" }
