package provisioner

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
//
// For "llamacpp":
//   - "--flag=value" of a known flag becomes two elements, as llama-server knows no "=" form;
//   - -ngl, --gpu-layers and --ngl become --n-gpu-layers; -np, -cb and -nocb become --parallel, --cont-batching and
//     --no-cont-batching;
//   - underscores in a known long flag become hyphens.
//
// For "vllm", "sglang" and "tgi", which know the "=" form, it stays, and underscores become hyphens. For the first two the
// beginning of a name becomes the name ("--gpu-mem" of vllm), and for "sglang" --tensor-parallel-size,
// --pipeline-parallel-size and --data-parallel-size become --tp-size, --pp-size and --dp-size.
//
// Values are never touched, whatever they look like: which flags take one is read from the engine's own help.
func NormalizeFlags(engine string, flags []string) []string {
	d, ok := dialects()[engine]
	if !ok {
		return append([]string{}, flags...)
	}
	out := make([]string, 0, len(flags))
	for _, f := range d.split(FlagSet{}, flags) {
		out = append(out, d.args(f, d.canonicalName(f), f.values)...)
	}
	return out
}
