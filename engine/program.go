package engine

import "regexp"

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
	// "vllm --version" takes 16 s. HelpArgs are asked by node.Inspect alone, once for each version.
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
	// DevicesArgs make the executable list the GPUs that it can use, and exit; nil means that it cannot. The first of them is a
	// flag, and only an executable whose help lists it is asked.
	DevicesArgs []string
	// ParseDevices reads what DevicesArgs printed on both streams: the devices, each with its name among Backends, and the
	// words in which it says why there are no more, "" for none. nil devices mean that it did not answer the question.
	ParseDevices func(output string) (devices []GPU, words string)
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

// Image is the container image of an engine, as its authors publish it, and what it needs to run well.
type Image struct {
	Name       string   // without tag
	Tag        string   // the one for this request
	Entrypoint []string // the command that a LaunchSpec's flags are for; nil means the image's own
	Volumes    []string // caches that are worth keeping, such as "a-volume:/path"
	ShmSize    int64    // of /dev/shm in bytes; 0 means the runtime's default
	Executable string   // the path inside, or a name in PATH; "" means the first word of Entrypoint, or Program.Command
}

// HubVolume keeps what engines in containers download from the Hugging Face hub, for all of them.
const HubVolume = "engine-provisioner-huggingface"
