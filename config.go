package provisioner

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	"github.com/llama-orch/engine-provisioner/internal/config"
	"github.com/llama-orch/engine-provisioner/internal/state"
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
	// Expose allows a "host" that other machines can reach, which then needs an "api_key". Left out, it is false.
	Expose bool `json:"expose,omitempty"`
	// Port is the first replica's TCP port, 1 to 65535; replica k listens on port+k.
	Port int `json:"port" validate:"required,min=1,max=65535"`
	// Model is the model to serve. The engine "custom" can do without.
	Model ModelConfig `json:"model,omitzero"`
	// Flags are passed to the engine, one element of its command line each. Names of old are rewritten, and defaults
	// are added where no flag says otherwise; see NormalizeFlags.
	Flags Flags `json:"flags,omitempty"`
	// Defaults says whose defaults hold where no flag says anything: "provisioner" or "engine". With "engine" only what other
	// keys decide is added to Flags. Left out, it is "provisioner".
	Defaults string `json:"defaults,omitempty" validate:"omitempty,oneof=provisioner engine"`
	// Env is added to the engine's environment, which otherwise is a short allowlist of the provisioner's. What other
	// keys decide may not be set here: CUDA_VISIBLE_DEVICES never but with "gpu: unmanaged", variables of other vendors not
	// beside Devices or "gpu: none".
	Env map[string]EnvValue `json:"env,omitempty"`
	// APIKey is where the key that clients must present comes from. Left out, the engine asks for none.
	APIKey *SecretRef `json:"api_key,omitempty"`
	// GPU says whether a GPU must be used: "required", "optional" or "none"; "unmanaged" leaves it to Flags and Env. Left out,
	// it is "required".
	GPU GPUPolicy `json:"gpu,omitempty" validate:"omitempty,oneof=required optional none unmanaged"`
	// Devices are the GPUs that the replica may use, by index (in PCI bus order), UUID, PCI address, or the name by which the
	// engine's executable lists one. "auto" chooses as few as have enough free memory. Left out, it is all of one vendor.
	Devices Devices `json:"devices,omitempty"`
	// Fit says what a start does when the model needs more memory than is free, by estimate: "warn", "require" (fail before
	// the load) or "off". Left out, it is "warn".
	Fit string `json:"fit,omitempty" validate:"omitempty,oneof=warn require off"`
	// Provisioning says where the engine's executable comes from.
	Provisioning Provisioning `json:"provisioning,omitzero"`
	// Custom describes the server of the engine "custom".
	Custom *CustomConfig `json:"custom,omitempty"`
	// Ready says when the replica counts as ready.
	Ready ReadyConfig `json:"ready,omitzero"`
	// Restart says what a fleet does when the engine ends unasked.
	Restart RestartConfig `json:"restart,omitzero"`
	// Liveness says how a fleet notices that the engine hangs.
	Liveness LivenessConfig `json:"liveness,omitzero"`
	// Drain says how requests in flight are waited for before a ready replica is stopped.
	Drain DrainConfig `json:"drain,omitzero"`
	// Stop says how the replica is stopped.
	Stop StopConfig `json:"stop,omitzero"`
	// OnManagerExit is "adopt" or "kill": whether the engine outlives the program that started it, for the next one to
	// adopt, or is killed with it, however that ends (Linux only). Left out, it is "adopt". With "kill", a program that is
	// killed takes the main process alone: workers that do not end by themselves stay until the next one, or a stop.
	OnManagerExit string `json:"on_manager_exit,omitempty" validate:"omitempty,oneof=adopt kill"`
	// Download says how slow downloads may be.
	Download DownloadConfig `json:"download,omitzero"`
	// Logs says how much of the engines' output is kept.
	Logs LogsConfig `json:"logs,omitzero"`
	// Handoff says who may read the handoff file beside the user that this runs as.
	Handoff HandoffConfig `json:"handoff,omitzero"`

	origin *config.Origin
}

// Flags are elements of a command line. In a file they are a list, in which numbers, true and false stand for their text,
// or one text that is split as a POSIX shell would, with no expansion: "-c 4096 -ngl 99".
type Flags []string

// ModelConfig refers to a model.
type ModelConfig struct {
	// ID is the reference: a path, relative to the file's folder (in Go: to Dir), "local:PATH" or "file:///PATH";
	// "hf:OWNER/REPO[@REVISION]/FILE" or "hf:OWNER/REPO[@REVISION]:QUANT" of the Hugging Face hub; or "https://…" with a
	// sha256. vllm, sglang and tgi take a folder, or "hf:OWNER/REPO[@REVISION]", which they fetch themselves; custom takes any
	// other words as they are. It stands in the handoff as it is.
	ID string `json:"id"`
	// SHA256 is the checksum of the file at an "https:" URL, 64 hexadecimal digits. No other reference takes one.
	SHA256 string `json:"sha256,omitempty"`
}

// GPUPolicy says whether a replica must run on a GPU.
type GPUPolicy string

// The policies.
const (
	GPURequired GPUPolicy = "required" // fail before the start without a usable GPU, and after it if it is not used
	GPUOptional GPUPolicy = "optional" // use what is there
	GPUNone     GPUPolicy = "none"     // run on the CPU, with all GPUs hidden
	// GPUUnmanaged leaves GPUs to the user's flags and env: nothing is chosen, hidden, rewritten or proven.
	GPUUnmanaged GPUPolicy = "unmanaged"
)

// Device is a GPU by index ("0"), UUID ("GPU-…", "MIG-…"), PCI address ("0000:3b:00.0") or the engine's name ("Vulkan0"). In a file an index may be written as a number.
type Device string

// Devices is a list of GPUs, or [DevicesAuto]. In a file, "auto" need not be in a list.
type Devices []Device

// autoDevice stands for the GPUs that a start chooses.
const autoDevice Device = config.AutoDevice

// DevicesAuto returns "devices: auto": as few GPUs as have enough free memory for the model, by estimate. Replicas of the
// same state directory that are still loading count. An engine whose need cannot be told gets the GPU with the most free
// memory, or as many as its flags ask for.
func DevicesAuto() Devices { return Devices{autoDevice} }

// auto reports whether a start chooses.
func (d Devices) auto() bool { return len(d) == 1 && d[0] == autoDevice }

// ReadyConfig says when a replica counts as ready.
type ReadyConfig struct {
	// Answer is "auto" or "off". With "auto" the engine must produce one token first; "off" leaves that proof out. Left
	// out, it is "auto".
	Answer string `json:"answer,omitempty" validate:"omitempty,oneof=auto off"`
	// Stall is how long a load may show no progress (log, CPU time, memory). Left out, it is 5 minutes.
	Stall Duration `json:"stall,omitempty" validate:"min=0"`
	// Timeout is how long a load may take altogether. Left out, it is 20 minutes.
	Timeout Duration `json:"timeout,omitempty" validate:"min=0"`
	// RequestTimeout bounds each probe. Left out, it is 5 seconds.
	RequestTimeout Duration `json:"request_timeout,omitempty" validate:"min=0"`
}

// StopConfig says how a replica is stopped.
type StopConfig struct {
	// Grace is the time between SIGTERM and SIGKILL. Left out, it is the engine's own default: 5 seconds for llamacpp and
	// custom, 15 for vllm and 30 for sglang, each with the time for what is in flight, 185 for tgi.
	Grace Duration `json:"grace,omitempty" validate:"min=0"`
}

// HandoffConfig says who may read the handoff file. What is given allows reading it and finding it: of the state directory,
// the folder of the handoffs can be listed, and nothing else. Its zero value allows nobody.
type HandoffConfig struct {
	// Mode is the mode of the file: "0640" lets its group read it, "0644" every user of the machine, "0600" nobody else. Left out,
	// it is "0640" with a group, and "0600" without.
	Mode FileMode `json:"mode,omitempty"`
	// Group is the group of the file, by name or number; the user that this runs as must be in it, or be root. Left out, it is
	// that user's own. Pools that share a state directory have the same one.
	Group Group `json:"group,omitempty"`
}

// LogsConfig says how much of the engines' output is kept. Each launch has a file of its own; what is too much is cut
// while the engine runs, oldest bytes first.
type LogsConfig struct {
	// Keep is how many launches' logs stay for each replica, 1 to 1000. The last failed launch's is among them, unless
	// only one is kept. Left out, it is 5.
	Keep int `json:"keep,omitempty" validate:"min=0,max=1000"`
	// MaxSize is how large the log of one launch may grow, 64KiB to 1TiB. Left out, it is 64MiB.
	MaxSize Size `json:"max_size,omitempty"`
	// MaxPoolSize is how much all logs of the pool may take, at least max_size. Those of launches that have ended go
	// first, then the share of each replica shrinks. Left out, it is 512MiB, or max_size if that is more.
	MaxPoolSize Size `json:"max_pool_size,omitempty"`
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
	if !k.Decode(data, c, valueTypes()) {
		return nil, k.err()
	}
	for i := range c.Pools {
		c.Pools[i].Dir = from.Dir
	}
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
	c.GPU = cmp.Or(c.GPU, GPURequired)
	c.Fit = cmp.Or(c.Fit, "warn")
	c.Provisioning.Mode = cmp.Or(c.Provisioning.Mode, "binary")
	c.Ready.Answer = cmp.Or(c.Ready.Answer, "auto")
	// Ollama's, which large models on network disks live with.
	c.Ready.Stall = cmp.Or(c.Ready.Stall, Duration(5*time.Minute))
	c.Ready.Timeout = cmp.Or(c.Ready.Timeout, Duration(20*time.Minute))
	// SGLang's health costs a token and at least 1 s.
	c.Ready.RequestTimeout = cmp.Or(c.Ready.RequestTimeout, Duration(5*time.Second))
	c.OnManagerExit = cmp.Or(c.OnManagerExit, "adopt")
	c.Restart = c.Restart.withDefaults()
	c.Liveness = c.Liveness.withDefaults()
	if c.Drain.Timeout == nil {
		c.Drain.Timeout = new(defaultDrainTimeout)
	}
	c.Download = c.Download.withDefaults()
	c.Logs = c.Logs.withDefaults()
	return c
}

func (c LogsConfig) withDefaults() LogsConfig {
	c.Keep = cmp.Or(c.Keep, 5)
	c.MaxSize = cmp.Or(c.MaxSize, 64<<20)
	c.MaxPoolSize = cmp.Or(c.MaxPoolSize, max(512<<20, c.MaxSize))
	return c
}
