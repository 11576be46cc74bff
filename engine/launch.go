package engine

import (
	"regexp"
	"time"
)

// LaunchSpec describes one launch of an engine and how to question it. It is inert data, and what is needed after the start
// is kept in the launch's record, for other programs and later versions.
type LaunchSpec struct {
	// Flags is the command line after the executable, in order. TempDirPlaceholder in a flag that is not the user's stands
	// for the launch's temporary folder.
	Flags []Flag `json:"-"`
	// Notes are what is worth knowing of the request and no problem, such as a flag that cannot be judged before the
	// executable is there; their messages are for people. They matter before the start alone.
	Notes []Problem `json:"-"`
	// Env is what the engine needs beside the allowlist and the configuration's env.
	Env map[string]string `json:"-"`
	// FetchesFromHub says that the engine fetches models or parts of them from the Hugging Face hub by itself. It gets the hub's
	// token of the provisioner's environment, which others do not.
	FetchesFromHub bool `json:"-"`
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
	// SpecialModel says that the flags name another form of the model, or other places for parts of it, so that a folder is not
	// checked beyond its being there. It matters before the start alone.
	SpecialModel bool `json:"-"`
	// OpenAI is the path below which the engine has OpenAI's API, such as "/v1"; "" means that it has none.
	OpenAI string `json:"openai,omitempty"`
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
	// Generated counts the tokens that come out of it, for people; nil means that nobody does.
	Generated *Generated `json:"generated,omitempty"`
	// Chatter finds lines of the log that are no sign of work, such as an engine's complaint that its workers hang. Lines about
	// the pages that are asked here never are.
	Chatter *regexp.Regexp `json:"chatter,omitempty"`
	// DrainsItself says that the engine answers what is in flight after SIGTERM, so that nothing is lost without Gauges.
	DrainsItself bool `json:"drains_itself,omitempty"`
	// Answer is the request that proves that the engine can produce a token; nil means that there is none.
	Answer *AnswerRequest `json:"answer,omitempty"`
	// MustAnswer says that a 4xx to Answer is a failure. Else it means that the model offers no completions.
	MustAnswer bool `json:"must_answer,omitempty"`
	// Garbled finds the error that answers Answer after a token was computed that the engine cannot make sense of, such as half
	// a character. It proves as much as the token.
	Garbled *regexp.Regexp `json:"garbled,omitempty"`
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
	// Buffers finds the engine's own report of where it has put the weights of a model: so many "mib" on a "device". It counts
	// for more than Offload.
	Buffers *regexp.Regexp `json:"buffers,omitempty"`
	// Devices finds the engine's own report of the devices that it uses: which "device" is at which address "pci", and its
	// "name".
	Devices *regexp.Regexp `json:"devices,omitempty"`
	// NoGPU finds the engine's own words for having fallen back to the CPU. What it says of one backend of several does not
	// belong here: another may work.
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
	// Waiting are those of Names that count requests which wait; nil means that nobody tells them from the others.
	Waiting []string `json:"waiting,omitempty"`
}

// Counters rise with the work of an engine: tokens, or steps of its model. One whose counters stand still although it has
// requests, and that uses no CPU time, is wedged.
type Counters struct {
	Path  string   `json:"path"`  // of the metrics page
	Names []string `json:"names"` // of series, summed over all their labels; those that an engine lacks are left out
}

// Generated says how many tokens an engine has generated.
type Generated struct {
	Path  string   `json:"path"`  // of the metrics page
	Names []string `json:"names"` // of series whose sum, over all their labels, is that number; those that an engine lacks are left out
	// Slots is where the tokens of requests in flight are told, of an engine whose series count them when a request is over; nil
	// means nowhere.
	Slots *Slots `json:"slots,omitempty"`
}

// Slots is a list in a JSON document that the running engine serves: what it computes at once.
type Slots struct {
	Path   string `json:"path"`   // the URL's path, such as "/slots"
	Busy   string `json:"busy"`   // the key in an element that is true while the slot has a request, such as "is_processing"
	Tokens string `json:"tokens"` // the key of how many tokens that has got, as in a [Field], such as "next_token.0.n_decoded"
}

// AnswerRequest is a completion request for one token.
type AnswerRequest struct {
	// Path is the URL's path that is posted to.
	Path string `json:"path"`
	// Body is the request's body, in JSON.
	Body string `json:"body"`
}
