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
	// Program says how the engine's executable is found and asked what it is.
	Program() Program
	// Launch describes one launch of cfg on host. Problems of the configuration come back as a *ConfigError that
	// holds all of them.
	Launch(cfg ProvisionConfig, host Host) (LaunchSpec, error)
}

// Program says how an engine's executable is found and asked what it is.
type Program struct {
	// Command is the executable's usual name, looked up in PATH where the configuration names none.
	Command string
	// VersionArgs make the executable print its version and exit; nil means that it cannot.
	VersionArgs []string
	// ParseVersion reads what VersionArgs printed on both streams. The first result is what the running engine
	// reports of itself where it does ("b11669-Debian"), the second a number that grows with each release, 0 when unknown.
	ParseVersion func(output string) (version string, build int, err error)
	// HelpArgs make the executable list its flags; nil means that flags cannot be checked before the start.
	HelpArgs []string
	// ParseHelp reads what HelpArgs printed on both streams.
	ParseHelp func(output string) FlagSet
}

// Binary is what is known of an engine's executable before it runs.
type Binary struct {
	Path    string  // absolute
	Digest  string  // sha256 of the file, in hex
	Version string  // as Program.ParseVersion gives it; "" when unknown
	Build   int     // 0 when unknown
	Flags   FlagSet // the flags that its help lists; the zero value when unknown
}

// Host is the facts that a launch depends on, gathered before [Engine.Launch] is asked.
type Host struct {
	Binary    Binary
	ModelPath string // absolute path of the model; "" when the engine resolves the reference itself
	GPUs      []GPU  // the devices this replica may use; none means that it runs on the CPU
}

// LaunchSpec describes one launch of an engine and how to question it. It is inert data.
type LaunchSpec struct {
	// Flags is the command line after the executable, in order.
	Flags []Flag `json:"-"`
	// Env is what the engine needs beside the allowlist and the configuration's env.
	Env map[string]string `json:"-"`
	// KeyEnv names the variable through which the engine takes its API key; "" means that it takes none.
	KeyEnv string
	// Health is the path that answers 200 once the engine is ready, and 503 or nothing before.
	Health string
	// Version is where the running engine says its version; the zero value means nowhere.
	Version Field
	// Model is where the running engine says which model file it serves; the zero value means nowhere.
	Model Field
	// Asleep is where the running engine says that it sleeps and a request would wake it; the zero value means nowhere.
	Asleep Field
	// Metrics is the Prometheus contract; nil means that metrics are off.
	Metrics *MetricsContract
	// Gauges count the requests in the engine; nil means that they cannot be counted, so no stop waits for them.
	Gauges *Gauges
	// Answer is the request that proves that the engine can produce a token; nil means that there is none.
	Answer *AnswerRequest
	// Grace is how long the engine is given between SIGTERM and SIGKILL where the configuration says nothing.
	Grace time.Duration
	// Causes tell why the engine died from its last lines, most specific first.
	Causes []CausePattern
	// Offload finds the engine's own report of layers on a GPU in its log, with the submatches "used" and "total".
	Offload *regexp.Regexp
	// NoGPU finds the engine's own words for having fallen back to the CPU.
	NoGPU *regexp.Regexp
}

// Field is a value in a JSON document that the running engine serves.
type Field struct {
	Path string // the URL's path, such as "/props"
	Key  string // a top-level key of the document, such as "build_info"
}

// MetricsContract is what an engine's metrics page must hold.
type MetricsContract struct {
	Path     string   // "/metrics"
	Required []string // names of series that must be there
}

// Gauges say how many requests are in an engine, running or waiting.
type Gauges struct {
	Path  string   `json:"path"`  // of the metrics page
	Names []string `json:"names"` // of series whose sum, over all their labels, is the number of requests
}

// AnswerRequest is a completion request for one token.
type AnswerRequest struct {
	Path string // posted to
	Body string // JSON
}

// CausePattern ties the words of a dying engine to a cause.
type CausePattern struct {
	Cause   Cause
	Pattern *regexp.Regexp // matched against each line of the log's end
}
