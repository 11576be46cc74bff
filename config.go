package provisioner

import (
	"time"
)

// Config is a pools file. Load one with [LoadConfig]; its zero value describes no pool and is not valid.
type Config struct {
	// StateDir is where records, logs and handoff files live; relative to the file's folder. "" means ".runtime" in
	// the working directory.
	StateDir string `json:"state_dir,omitempty"`
	// Pools are the groups of equal replicas to run on this node.
	Pools []Pool `json:"pools" validate:"required,min=1,max=256,dive"`
}

// Pool is a number of equal replicas: replica k is named "rk" and listens on Port+k.
type Pool struct {
	// ID names the pool: lower-case letters, digits, "-" and "_", at most 63, beginning and ending with a letter or digit.
	ID string `json:"id" validate:"required,id"`
	// Replicas is how many; 0 means 1.
	Replicas int `json:"replicas,omitempty" validate:"min=0,max=256"`

	ProvisionConfig
}

// ProvisionConfig is everything about one replica.
type ProvisionConfig struct {
	// PoolID and ReplicaID name the replica. They take the grammar of Pool.ID; in a pools file they follow from the pool.
	PoolID    string `json:"-"`
	ReplicaID string `json:"-"`
	// StateDir is where the record, the logs and the handoff file live; "" means ".runtime".
	StateDir string `json:"-"`
	// Dir is the folder that relative paths (model, binary, key file, and those in flags) refer to, and the engine's
	// working directory. "" means the working directory; LoadConfig sets the file's folder.
	Dir string `json:"-"`

	// Engine names the kind of engine: "llamacpp", or one that was added with WithEngine.
	Engine string `json:"engine" validate:"required,id"`
	// Host is the address to listen on; "" means 127.0.0.1. Any other than a loopback address needs Expose.
	Host string `json:"host,omitempty" validate:"omitempty,ip"`
	// Expose allows a Host that other machines can reach. It needs an APIKey.
	Expose bool `json:"expose,omitempty"`
	// Port is the first replica's TCP port, 1 to 65535.
	Port int `json:"port" validate:"required,min=1,max=65535"`
	// Model is the model to serve.
	Model ModelConfig `json:"model"`
	// Flags are passed to the engine after normalization; see NormalizeFlags.
	Flags []string `json:"flags,omitempty"`
	// Env is added to the engine's environment, which otherwise is a short allowlist of the provisioner's.
	Env map[string]EnvValue `json:"env,omitempty"`
	// APIKey is where the key that clients must present comes from; nil means that the engine asks for none.
	APIKey *SecretRef `json:"api_key,omitempty"`
	// GPU says whether a GPU must be used; "" means GPURequired.
	GPU GPUPolicy `json:"gpu,omitempty" validate:"omitempty,oneof=required optional none"`
	// Devices are the GPUs that the replica may use, by index (in PCI bus order) or UUID; none means all.
	Devices []Device `json:"devices,omitempty"`
	// Provisioning says where the engine's executable comes from.
	Provisioning Provisioning `json:"provisioning,omitzero"`
	// Ready says when the replica counts as ready.
	Ready ReadyConfig `json:"ready,omitzero"`
	// Stop says how the replica is stopped.
	Stop StopConfig `json:"stop,omitzero"`
}

// ModelConfig refers to a model.
type ModelConfig struct {
	// ID is the reference: "local:/path", "/path", "file:///path", or a path relative to Dir. It stands in the handoff as it is.
	ID string `json:"id" validate:"required"`
}

// GPUPolicy says whether a replica must run on a GPU.
type GPUPolicy string

// The policies.
const (
	GPURequired GPUPolicy = "required" // fail before the start without a usable GPU, and after it if it is not used
	GPUOptional GPUPolicy = "optional" // use what is there
	GPUNone     GPUPolicy = "none"     // run on the CPU, with all GPUs hidden
)

// Device is a GPU by index ("0") or UUID ("GPU-…", "MIG-…"). In a file an index may be written as a number.
type Device string

// Provisioning says where an engine's executable comes from.
type Provisioning struct {
	// Mode is "binary" (the default): an executable that is already on the node.
	Mode string `json:"mode,omitempty" validate:"omitempty,oneof=binary"`
	// Binary belongs to mode "binary".
	Binary *BinaryConfig `json:"binary,omitempty"`
}

// BinaryConfig names an executable that is already on the node.
type BinaryConfig struct {
	// Path is the executable's path, relative to Dir, or a bare name that is looked up in PATH. "" means the engine's usual name.
	Path string `json:"path,omitempty"`
}

// ReadyConfig says when a replica counts as ready.
type ReadyConfig struct {
	// Answer is "auto" (the default): the engine must produce one token first; "off" leaves that proof out.
	Answer string `json:"answer,omitempty" validate:"omitempty,oneof=auto off"`
	// Stall is how long a load may show no progress (log, CPU time, memory); 0 means 5 minutes.
	Stall Duration `json:"stall,omitempty" validate:"min=0"`
	// Timeout is how long a load may take altogether; 0 means 20 minutes.
	Timeout Duration `json:"timeout,omitempty" validate:"min=0"`
	// RequestTimeout bounds each probe; 0 means 5 seconds.
	RequestTimeout Duration `json:"request_timeout,omitempty" validate:"min=0"`
}

// StopConfig says how a replica is stopped.
type StopConfig struct {
	// Grace is the time between SIGTERM and SIGKILL; 0 means the engine's own default (5 seconds for llamacpp).
	Grace Duration `json:"grace,omitempty" validate:"min=0"`
}

// EnvValue is a value of an environment variable: plain text, or a reference to a secret.
type EnvValue struct {
	Value  string
	Secret *SecretRef
}

// SecretRef says where a secret is to be found; exactly one field is set. The secret itself is never written anywhere.
type SecretRef struct {
	// FromEnv names a variable in the provisioner's own environment.
	FromEnv string `json:"from_env,omitempty"`
	// FromFile is a file that holds the secret alone; a newline at its end is dropped. Relative to Dir.
	FromFile string `json:"from_file,omitempty"`
}

// Duration is a time.Duration that is written as text in a file, such as "90s" or "5m".
type Duration time.Duration
