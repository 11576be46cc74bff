package engine

// Origin says who put a flag on a command line.
type Origin string

// The origins of a flag.
const (
	OriginConfig      Origin = "config"      // the configuration's flags list
	OriginDefault     Origin = "default"     // a default of this package, for want of a word of the user
	OriginProvisioner Origin = "provisioner" // owned by this package: the model, the address
)

// Flag is one flag of a command line with its value, and why it is there.
type Flag struct {
	Args   []string `json:"args"` // one or more argv elements, such as "--parallel", "1"
	Origin Origin   `json:"origin"`
	Key    string   `json:"key,omitempty"`  // the configuration key it comes from, such as "flags[0]" or "port"
	Note   string   `json:"note,omitempty"` // such as `rewritten from "-ngl"`
}

// FlagSet is the flags that an executable knows, as its help lists them. The zero value means that they are not known.
type FlagSet struct {
	Defs []FlagDef `json:"defs,omitempty"`
}

// FlagDef is one subject of a command line with all its spellings.
type FlagDef struct {
	Names    []string `json:"names"`              // such as "-cb", "--cont-batching"
	Negated  []string `json:"negated,omitempty"`  // such as "-nocb", "--no-cont-batching"
	Value    string   `json:"value,omitempty"`    // the value's placeholder, such as "N"; "" for a switch
	Count    int      `json:"count,omitempty"`    // how many values it takes; 0 means one, and none for a switch
	Optional bool     `json:"optional,omitempty"` // the value may be left out
	Many     bool     `json:"many,omitempty"`     // more values may follow
	Env      string   `json:"env,omitempty"`      // the environment variable that says the same
}

// NormalizeFlags writes an engine's flags the one way that the rest of the package expects. It is pure and idempotent,
// and it keeps every element that it has no reason to touch; for an engine without rules it returns a copy.
