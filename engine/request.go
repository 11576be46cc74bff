package engine

import "time"

// Request is what a configuration asks of one launch, as far as engines need to know it. It is complete: what the
// configuration left out has its default. An engine reads it and keeps nothing of it; maps and slices are not to be changed.
// The zero value asks for nothing, and is what [Program] is asked of before there is a configuration.
type Request struct {
	// Model is what to serve. Where it lies on this host is in [Host].
	Model Model
	// Host and Port are where to listen.
	Host string
	Port int
	// Expose says that other machines may reach the engine.
	Expose bool
	// Flags are the user's, one element of the command line each.
	Flags []string
	// EngineDefaults says that the user wants the engine's own defaults: only what other keys decide is added to Flags.
	EngineDefaults bool
	// Env are the user's variables. The value of a secret is left out: it is "".
	Env map[string]string
	// HasKey says that clients must present an API key. The engine gets it by the variable that [LaunchSpec] names.
	HasKey bool
	// GPU says whether a GPU must be used.
	GPU GPUPolicy
	// ReserveMemory says that the launch must take the memory that it was reckoned with, and not what it finds.
	ReserveMemory bool
	// Executable is the path or name of the executable that the user wants; "" means [Program]'s.
	Executable string
	// Versions are names of the version that the user asks for. They matter as long as the executable is not there.
	Versions []Version
	// DrainTimeout is how long requests in flight may take when the engine is to be stopped; 0 means that nobody waits.
	DrainTimeout time.Duration
	// Grace is the time between SIGTERM and SIGKILL that the user wants; 0 leaves it to the engine.
	Grace time.Duration
	// Custom describes the server of the engine "custom"; nil for all others.
	Custom *Custom
}

// Model is a reference to a model.
type Model struct {
	// ID is the reference as the user wrote it, such as "local:/models/chat.gguf". Engines that are given no path on the host
	// take it as it is.
	ID string
	// Repository is the one of the Hugging Face hub that ID names, such as "Qwen/Qwen3-0.6B", and Revision its branch, tag or
	// commit. Both are "" where ID names none.
	Repository, Revision string
}

// Version is a name by which a user asks for a version of an engine.
type Version struct {
	// Name is such as "b8895", "v0.10.2" or "vllm==0.32.0".
	Name string
	// From says what it names, for messages: "release", "source", "image tag" or "requirement".
	From string
	// Image is the image that it is a tag of; "" for the engine's own, and for what is no tag of an image.
	Image string
}

// GPUPolicy says whether a replica must run on a GPU.
type GPUPolicy string

// The policies.
const (
	GPURequired GPUPolicy = "required" // fail before the start without a usable GPU, and after it if it is not used
	GPUOptional GPUPolicy = "optional" // use what is there
	GPUNone     GPUPolicy = "none"     // run on the CPU, with all GPUs hidden
	// GPUUnmanaged leaves GPUs to the user's flags and variables: nothing is chosen, hidden, added or rewritten.
	GPUUnmanaged GPUPolicy = "unmanaged"
)

// Custom describes a server that is known by its configuration alone. settings.Custom says what its fields mean.
type Custom struct {
	Command          []string
	Env              map[string]string
	KeyEnv           string
	Health           string
	Version          *Field
	Metrics          *MetricsContract
	Gauges, Counters []string
	Answer           *AnswerRequest
	OpenAI           string
	Grace            time.Duration
	Aliases          map[string]string
}
