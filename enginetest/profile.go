package enginetest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// Profile is a kind of engine that a fake can be. The zero value is [LlamaCPP].
//
// A profile has its engine's command line, pages, process tree, reactions to signals and dying words. Each says where
// it has them from: from a run of the real engine, or from its source.
type Profile string

// The profiles.
const (
	LlamaCPP Profile = ""       // llama.cpp's llama-server, as measured on b11669
	VLLM     Profile = "vllm"   // vllm serve, as measured on 0.32.0 on a CPU
	SGLang   Profile = "sglang" // sglang serve, from the source of mid-2026, about v0.5.15
	TGI      Profile = "tgi"    // text-generation-launcher, from the source of 3.3.6-dev0
	Custom   Profile = "custom" // a plain web server with a completion route
)

// Program is the usual name of the engine's executable.
func (p Profile) Program() string { return p.profile().about().program }

// profile is what the fake needs to know of one kind of engine. Its methods keep nothing: the state is the engine's.
type profile interface {
	about() about
	// parse reads the command line; a refusal is an error with its exit status.
	parse(args []string, lookup func(string) (string, bool), b Behavior) (options, error)
	// run is the engine's life from its first line to its end. It returns the exit status.
	run(e *engine) int
	// routes answers requests, once the port takes them.
	routes(e *engine) http.Handler
	// fail is the engine's form of an error.
	fail(w http.ResponseWriter, code int, kind, message string)
	// dieAnswering is what happens when the process that computes dies over a request.
	dieAnswering(e *engine, w http.ResponseWriter)
	// line is the engine's form of a line in its log.
	line(e *engine, level byte, text string) string
}

// about is the fixed part of a profile.
type about struct {
	program string   // the executable's name
	dist    string   // the Python distribution that it belongs to
	version string   // what it says of itself
	asked   string   // what it prints when asked for its version
	stderr  bool     // and whether it does so on stderr
	help    string   // what it prints when asked for help
	server  string   // the header "Server" of its answers
	health  []string // paths that answer how it is
}

func (p Profile) profile() profile {
	switch p {
	case LlamaCPP, "llamacpp":
		return llamacpp{}
	case VLLM:
		return vllm{}
	case SGLang:
		return sglang{}
	case TGI:
		return tgi{}
	case Custom:
		return custom{}
	}
	panic(fmt.Sprintf("enginetest: no profile is called %q", string(p)))
}

// refusal is a command line that the engine does not take.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

// installDist writes what pip leaves of a Python distribution beside its scripts, where versions are read from
// without running anything: asking a real vLLM takes 16 seconds.
func installDist(prefix string, a about) error {
	if a.dist == "" {
		return nil
	}
	dir := filepath.Join(prefix, "lib", "python3.12", "site-packages", a.dist+"-"+a.version+".dist-info")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text := fmt.Sprintf("Metadata-Version: 2.4\nName: %s\nVersion: %s\n", a.dist, a.version)
	return os.WriteFile(filepath.Join(dir, "METADATA"), []byte(text), 0o600)
}
