package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/settings"
)

// Plan is what a launch would run, and why.
type Plan struct {
	Pool    string        `json:"pool"`
	Replica string        `json:"replica"`
	Engine  string        `json:"engine"`
	Version string        `json:"engine_version"`
	Binary  string        `json:"binary"` // absolute path of the executable
	Dir     string        `json:"dir"`    // working directory
	Flags   []engine.Flag `json:"flags"`  // the command line after the executable, in order
	Env     []Variable    `json:"env"`    // names only
	// LeftBehind are variables of the caller's environment that engines would heed and that this one does not get.
	LeftBehind []LeftVariable `json:"left_behind,omitempty"`
	Model      string         `json:"model"` // absolute path; of a model that is pending, where it will be
	URL        string         `json:"url"`
	GPUs       []engine.GPU   `json:"gpus"` // none: the CPU
	// Memory is what the launch needs, by estimate, beside what is free; none when that cannot be told.
	Memory  []MemoryNeed      `json:"memory,omitempty"`
	Grace   settings.Duration `json:"grace"`
	Record  string            `json:"record"`
	Log     string            `json:"log"`
	Handoff string            `json:"handoff"`
	// Pending is what Start gets first, such as a build; for people. As long as there is something, Binary and Version may
	// be empty, and Flags are those of the newest known version.
	Pending []string `json:"pending,omitempty"`
	// Notes are worth knowing before a start, and keep nothing from starting; for people.
	Notes []string `json:"notes,omitempty"`
	// Elsewhere says that it is for another machine, of which nothing is known: what depends on that is empty.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// Args returns the command line after the executable.
func (p Plan) Args() []string {
	args := []string{}
	for _, f := range p.Flags {
		args = append(args, f.Args...)
	}
	return args
}

// Variable is one variable of an engine's environment. The value is left out: it may be a secret.
type Variable struct {
	Name   string `json:"name"`
	Origin string `json:"origin"` // "inherited", "engine", "config", "api_key", "devices" or "provisioner"
}

// LeftVariable is a variable that is set where the provisioner runs, that engines would heed, and that the engine does not get.
type LeftVariable struct {
	Name string `json:"name"`
	How  string `json:"how"` // what to write instead; for people
}

// MemoryNeed is an estimate of what a launch needs of one kind of memory, beside what is free of it.
type MemoryNeed struct {
	// GPU is the ID of the GPU whose memory it is; "" means main memory.
	GPU string `json:"gpu,omitempty"`
	// Label is the same for people, such as "GPU 0".
	Label string `json:"label"`
	// Need is the estimate in bytes.
	Need uint64 `json:"need"`
	// Mapped is the part of Need that is the model's file, which replicas that map the same one share.
	Mapped uint64 `json:"mapped,omitempty"`
	// Free is what is free in bytes, less what other replicas have mapped, and what those that are still loading will take.
	Free uint64 `json:"free"`
	// Whole says that nobody tells how much of it is in use: Free is all that there is.
	Whole bool `json:"whole,omitempty"`
}

// Fits reports whether there is enough.
func (m MemoryNeed) Fits() bool { return m.Need <= m.Free }

// String returns the numbers, such as "GPU 0 needs 5.2 GiB and has 3.1 GiB free".
func (m MemoryNeed) String() string {
	if m.Whole {
		return fmt.Sprintf("%s needs %s of %s; how much of that is free is not known", m.Label, bytesize.Binary(m.Need), bytesize.Binary(m.Free))
	}
	return fmt.Sprintf("%s needs %s and has %s free", m.Label, bytesize.Binary(m.Need), bytesize.Binary(m.Free))
}

// Difference is a key of the configuration by which a launch differs from what Start would run now. Its zero value says
// nothing.
type Difference struct {
	// Key is the key, such as "flags[2]" or "env.LANG"; in a container also "provisioning.container.shm_size". It is "Dir" for
	// the folder of the file, and "" where the launch's record does not tell which key it is.
	Key string `json:"key"`
	// Why is what the key does not say, such as "the executable changed", for people; "" for nothing.
	Why string `json:"why,omitempty"`
	// Was and Now are the values, where they can be shown; of a flag, its words on the command line. Both are "" for what may
	// be confidential, such as a variable.
	Was string `json:"was,omitempty"`
	Now string `json:"now,omitempty"`
}

// String returns the key with why, such as "provisioning.binary (the executable changed)".
func (d Difference) String() string {
	switch {
	case d.Key == "":
		return d.Why
	case d.Why == "":
		return d.Key
	}
	return d.Key + " (" + d.Why + ")"
}

// Names is differences for people, in a line.
func Names(differs []Difference) string {
	names := make([]string, len(differs))
	for i, d := range differs {
		names[i] = d.String()
	}
	return strings.Join(slices.Compact(names), ", ")
}
