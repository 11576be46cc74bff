package provisioner

import (
	"regexp"
	"time"
)

// Engine describes how one kind of inference engine is launched and questioned.
//
// An Engine is data: its methods are pure functions that touch no file, network, process or environment. The
// provisioner gathers the facts, asks the Engine for a LaunchSpec, and acts on it. Implementations must be safe for
// concurrent use. Add one of your own with [WithEngine].
type Engine interface {
	// Name is the engine's name in the configuration and in the handoff file, such as "llamacpp".
	Name() string
	// Program says how the executable that cfg asks for is found and asked what it is. The zero ProvisionConfig stands
	// for one that says nothing about it.
	Program(cfg ProvisionConfig) Program
	// Launch describes one launch of cfg on host. Problems of the configuration come back as a *ConfigError that
	// holds all of them.
	Launch(cfg ProvisionConfig, host Host) (LaunchSpec, error)
}

// Program says how an engine's executable is found and asked what it is, and what it takes for a model.
type Program struct {
	// Command is the executable's usual name, looked up in PATH where the configuration names none.
	Command string
	// Modes are the provisioning modes that can bring the executable, such as "package"; nil means all.
	Modes []string
	// Model says what the engine serves; the zero value is ModelFile.
	Model ModelKind
	// Distribution is the Python distribution that installs Command, such as "vllm"; "" means that it is no Python program.
	// The version is then read from the distribution's metadata beside the executable, which takes a millisecond:
	// "vllm --version" takes 16 s. HelpArgs are asked by [Inspect] alone, once for each version.
	Distribution string
	// SourceFlags are what cmake is given before the configuration's "cmake_flags" when the engine is built from source, at a
	// reference that stands for a commit; the commit is "" where it is not known yet. nil means nothing.
	SourceFlags func(ref, commit string) []string
	// Release is where executables of the engine are published; nil means nowhere that is known.
	Release *Release
	// Package is a requirement that installs Command, such as "vllm==0.32.0", for people who have none; "" means that there is none
	// to offer.
	Package string
	// Port is the one that the engine listens on when nobody says which, which is what its users expect; 0 when there is none.
	Port int
	// VersionArgs make the executable print its version and exit; nil means that it cannot, or need not.
	VersionArgs []string
	// ParseVersion reads what VersionArgs printed on both streams. The first result is what the running engine
	// reports of itself where it does ("b11669-Debian"), the second a number that grows with each release, 0 when unknown.
	ParseVersion func(output string) (version string, build int, err error)
	// Image is where the engine is found as a container image.
	Image Image
	// HelpArgs make the executable list its flags; nil means that flags cannot be checked before the start.
	HelpArgs []string
	// ParseHelp reads what HelpArgs printed on both streams.
	ParseHelp func(output string) FlagSet
}

// Release is where executables of an engine are published, on GitHub.
type Release struct {
	Repo string         // such as "ggml-org/llama.cpp"
	Tag  *regexp.Regexp // what the tags of releases with executables look like
	// Known is a tag of which it is known that no file is missing, for people who have none; "" means that there is none to offer.
	Known string
	// Pick chooses, by their names, the files of a release for an operating system and an architecture, with or without the use
	// of a GPU: an archive with the executable, and then those with libraries that belong beside it.
	Pick func(tag string, names []string, goos, goarch string, gpu bool) ([]string, error)
}

// ModelKind says what an engine takes for a model, and so what can be checked before it starts.
type ModelKind string

// The kinds of models.
const (
	ModelFile   ModelKind = ""       // a file
	ModelGGUF   ModelKind = "gguf"   // a GGUF file of llama.cpp, maybe in parts, whose header is checked
	ModelFolder ModelKind = "folder" // a folder of config.json and safetensors files, or the name of a repository that the engine itself fetches
	ModelAny    ModelKind = "any"    // a path or any words, which the engine gets as they are; it may be left out
)

// Binary is what is known of an engine's executable before it runs.
type Binary struct {
	Path    string  `json:"path"`    // absolute
	Digest  string  `json:"digest"`  // sha256 of the file, and of the version of a Python program, in hex
	Version string  `json:"version"` // as Program.ParseVersion or the Distribution gives it; "" when unknown
	Build   int     `json:"build"`   // a number that grows with each release: llama.cpp's own, or 28000 for 0.28.0; 0 when unknown
	Flags   FlagSet `json:"flags"`   // the flags that its help lists; the zero value when unknown
}

// Host is the facts that a launch depends on, gathered before [Engine.Launch] is asked.
type Host struct {
	Binary    Binary
	ModelPath string // absolute path of the model; "" when the engine resolves the reference itself or has none
	// ModelRevision is the commit of a model of the Hugging Face hub that the engine fetches by itself; "" when it is not known.
	ModelRevision string
	GPUs          []GPU // the devices this replica may use; none means that it runs on the CPU
}

// LaunchSpec describes one launch of an engine and how to question it. It is inert data, and what is needed after the start
// is kept in the launch's record, for other programs and later versions.
type LaunchSpec struct {
	// Flags is the command line after the executable, in order. TempDirPlaceholder in a flag that is not the user's stands
	// for the launch's temporary folder.
	Flags []Flag `json:"-"`
	// Env is what the engine needs beside the allowlist and the configuration's env.
	Env map[string]string `json:"-"`
	// KeyEnv names the variable through which the engine takes its API key; "" means that it takes none.
	KeyEnv string `json:"key_env,omitempty"`
	// KeySeparator is the text at which the engine splits the value of KeyEnv into several keys; "" means that it does not.
	// A key that holds it is refused before the start.
	KeySeparator string `json:"key_separator,omitempty"`
	// Health is the path that answers 200 once the engine is ready, and 503 or nothing before.
	Health string `json:"health"`
	// HealthTakes is how long a healthy engine takes to answer Health; 0 means that it answers at once. Questions wait well
	// above it, and are that far apart.
	HealthTakes time.Duration `json:"health_takes_ns,omitempty"`
	// Ports are those that the engine listens on beside the configured one. They must be free before the start.
	Ports []Port `json:"ports,omitempty"`
	// GPUs is how many GPUs of this node the flags ask for; 0 means that the engine takes those that it gets. It matters before the start
	// alone.
	GPUs int `json:"-"`
	// Context is the number of tokens of context that the flags ask for, to be held against the model; 0 means the model's own.
	Context int `json:"context,omitempty"`
	// Version is where the running engine says its version; the zero value means nowhere.
	Version Field `json:"version,omitzero"`
	// Model is where the running engine says which model it serves: the path, or what stood for it on the command line. The
	// zero value means nowhere.
	Model Field `json:"model,omitzero"`
	// Slots is how many requests the engine computes at once, by its flags; 0 means that they do not tell.
	Slots int `json:"slots,omitempty"`
	// SlotsAt is where the running engine says that, which counts for more than Slots. The zero value means nowhere.
	SlotsAt Field `json:"slots_at,omitzero"`
	// Asleep is where the running engine says that it sleeps and is not to be asked for a token: that would wake it, or it
	// cannot answer. The zero value means nowhere.
	Asleep Field `json:"asleep,omitzero"`
	// SleepsIdle says that the engine goes to sleep by itself when it has had nothing to do for long. Then nothing is asked that
	// would keep it awake.
	SleepsIdle bool `json:"sleeps_idle,omitempty"`
	// MetricsWake says that the metrics page wakes a sleeping engine, and keeps an idle one awake.
	MetricsWake bool `json:"metrics_wake,omitempty"`
	// Metrics is the Prometheus contract; nil means that metrics are off.
	Metrics *MetricsContract `json:"metrics,omitempty"`
	// Gauges count the requests in the engine; nil means that they cannot be counted, so no stop waits for them.
	Gauges *Gauges `json:"gauges,omitempty"`
	// Counters count what the engine has done; nil means that nobody can tell its work from its words.
	Counters *Counters `json:"counters,omitempty"`
	// Chatter finds lines of the log that are no sign of work, such as an engine's complaint that its workers hang. Lines about
	// the pages that are asked here never are.
	Chatter *regexp.Regexp `json:"chatter,omitempty"`
	// DrainsItself says that the engine answers what is in flight after SIGTERM, so that nothing is lost without Gauges.
	DrainsItself bool `json:"drains_itself,omitempty"`
	// Answer is the request that proves that the engine can produce a token; nil means that there is none.
	Answer *AnswerRequest `json:"answer,omitempty"`
	// MustAnswer says that a 4xx to Answer is a failure. Else it means that the model offers no completions.
	MustAnswer bool `json:"must_answer,omitempty"`
	// GGUF is what the memory of an engine that loads a GGUF file depends on; nil means that it cannot be estimated.
	GGUF *GGUFRun `json:"-"`
	// Grace is how long the engine is given between SIGTERM and SIGKILL where the configuration says nothing.
	Grace time.Duration `json:"grace_ns"`
	// LoadGrace is the same for a launch that was not ready yet; 0 means Grace. An engine that does not hear SIGTERM while it
	// loads would only keep its user waiting.
	LoadGrace time.Duration `json:"load_grace_ns,omitempty"`
	// KillsItself says that the engine ends by SIGKILL of its own, so that such an end is no sign of the kernel's.
	KillsItself bool `json:"kills_itself,omitempty"`
	// Causes tell why the engine died from its last lines, most specific first.
	Causes []CausePattern `json:"causes,omitempty"`
	// Advice is what to do about a cause, where there is more to say of this engine than of all.
	Advice map[Cause]string `json:"advice,omitempty"`
	// Offload finds the engine's own report of layers on a GPU in its log, with the submatches "used" and "total".
	Offload *regexp.Regexp `json:"offload,omitempty"`
	// NoGPU finds the engine's own words for having fallen back to the CPU.
	NoGPU *regexp.Regexp `json:"no_gpu,omitempty"`
}

// TempDirPlaceholder stands for the launch's temporary folder in a [LaunchSpec]'s Flags. The folder is made for each
// launch and removed after it, and its path is short enough for unix sockets in it.
const TempDirPlaceholder = "{tmpdir}"

// Port is a TCP port that an engine needs beside the configured one.
type Port struct {
	Number int    `json:"number"`
	Use    string `json:"use"` // what it is for, such as "the metrics of TGI"
}

// Field is a value in a JSON document that the running engine serves.
type Field struct {
	// Path is the URL's path, such as "/props".
	Path string `json:"path"`
	// Key is where it is in the document: keys and indexes with dots between, such as "build_info" or "data.0.root".
	Key string `json:"key"`
}

// MetricsContract is what an engine's metrics page must hold.
type MetricsContract struct {
	// Path is the URL's path, such as "/metrics".
	Path string `json:"path"`
	// Required are names of series that must be there.
	Required []string `json:"required,omitempty"`
}

// Gauges say how many requests are in an engine, running or waiting.
type Gauges struct {
	Path  string   `json:"path"`  // of the metrics page
	Names []string `json:"names"` // of series whose sum, over all their labels, is the number of requests
}

// Counters rise with the work of an engine: tokens, or steps of its model. One whose counters stand still although it has
// requests, and that uses no CPU time, is wedged.
type Counters struct {
	Path  string   `json:"path"`  // of the metrics page
	Names []string `json:"names"` // of series, summed over all their labels; those that an engine lacks are left out
}

// GGUFRun is what the memory of a llama.cpp-like engine depends on beside the model. The zero value stands for the
// engine's defaults on the CPU.
type GGUFRun struct {
	Context int // tokens over all slots; 0 means the model's own
	// LeastContext is what the engine shrinks the context to, if need be, where memory lacks; 0 means that it does not.
	LeastContext int
	Slots        int       // requests at once; 0 means 1
	Batch        int       // logical; 0 means the engine's default
	MicroBatch   int       // physical; 0 means the engine's default
	KeyType      string    // of the KV cache, such as "q8_0"; "" means "f16"
	ValueType    string    // as KeyType
	NoFlash      bool      // without flash attention
	KVOnHost     bool      // the KV cache stays in main memory
	FullSWA      bool      // sliding windows have a KV cache of full size
	Layers       int       // on GPUs; negative means all
	Fits         bool      // where the GPUs have no room for all of it, the engine itself leaves some on the host
	Split        string    // over GPUs: "layer", "row" or "none"; "" means "layer"
	MainGPU      int       // the one that takes all where Split is "none"
	Shares       []float64 // of each GPU; nil means by their free memory
	Beside       []string  // files that are loaded, too: draft models, projectors, adapters
	OnHost       []string  // regular expressions; tensors whose names match stay in main memory, whatever Layers says
	Copied       bool      // the weights are read into memory of the engine's own; else the file is mapped
	NoRepack     bool      // the CPU works with the weights as they are in the file
	Remedies     GGUFRemedies
}

// GGUFRemedies are flags, as a user writes them, with which an engine needs less memory. Where the estimate knows a number
// with which the model would fit, it is told behind them. "" stands for a flag that the engine lacks.
type GGUFRemedies struct {
	Context string // takes the tokens of context over all slots, such as "--ctx-size"
	Layers  string // takes the number of layers on GPUs; "" also for an engine that finds it by itself
	Experts string // takes the number of layers, from the first, whose experts stay in main memory, such as "--n-cpu-moe"
}

// AnswerRequest is a completion request for one token.
type AnswerRequest struct {
	// Path is the URL's path that is posted to.
	Path string `json:"path"`
	// Body is the request's body, in JSON.
	Body string `json:"body"`
}

// CausePattern ties the words of a dying engine to a cause.
type CausePattern struct {
	Cause   Cause          `json:"cause"`
	Pattern *regexp.Regexp `json:"pattern"` // matched against each line of the log's end
	// Advice is what to do where these words are found; "" leaves it to the LaunchSpec's Advice on the cause.
	Advice string `json:"advice,omitempty"`
}
