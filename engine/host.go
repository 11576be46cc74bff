package engine

// Binary is what is known of an engine's executable before it runs.
type Binary struct {
	Path    string  `json:"path"`    // absolute
	Digest  string  `json:"digest"`  // sha256 of the file, and of the version of a Python program, in hex
	Version string  `json:"version"` // as Program.ParseVersion or the Distribution gives it; "" when unknown
	Build   int     `json:"build"`   // a number that grows with each release: llama.cpp's own, or 28000 for 0.28.0; 0 when unknown
	Flags   FlagSet `json:"flags"`   // the flags that its help lists; the zero value when unknown
}

// Host is the facts that a launch depends on, gathered before an engine is asked for a LaunchSpec.
type Host struct {
	Binary    Binary
	ModelPath string // absolute path of the model; "" when the engine resolves the reference itself or has none
	// ModelRevision is the commit of a model of the Hugging Face hub that the engine fetches by itself; "" when it is not known.
	ModelRevision string
	// Beside are files of the model's repository that are of use beside the model, and were not fetched with it.
	Beside []Companion
	GPUs   []GPU // the devices this replica may use; none means that it runs on the CPU
}

// Companion is a file that lies beside a model in its repository.
type Companion struct {
	Name  string // in the repository, such as "mmproj-F16.gguf"
	Path  string // absolute; "" where it is not on this host
	URL   string // where it can be had
	Draft bool   // it is a small model that drafts for the other; else a projector, with which that takes images or sound
}
