package llamacpp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
)

// allLayers means all layers on every build: no model has as many. -1 meant none on CUDA before b6325; the words "all" and
// "auto" are known since b7553 (llama.cpp #15434, #18266).
const allLayers = "999"

// fits reports whether the engine itself puts layers, and the experts of a mixture, where they fit: builds since b7407
// (llama.cpp #16653), for as long as they are given no number and "--fit" stays on.
func fits(m *flagline.Line) bool {
	return m.Since("--fit", 7407) && !flagline.IsOff(m.Said("fit"))
}

// The subjects that depend on the machine.
const (
	subjectGPULayers = "gpu-layers"
	subjectDevice    = "device"
)

// checkValue checks what depends on the machine.
func checkValue(m *flagline.Line, word string, def engine.FlagDef, values []string) ([]string, string, error) {
	switch flagline.Subject(def) {
	case subjectGPULayers:
		return gpuLayers(m, word, values[0])
	case subjectDevice:
		switch {
		case onWorkers(m) && strings.HasPrefix(values[0], "RPC"):
		case m.Request.GPU == engine.GPUNone && values[0] != "none":
			return nil, "", fmt.Errorf(`%q chooses a GPU while "gpu" is none; remove one of them`, word)
		case required(m) && values[0] == "none":
			return nil, "", fmt.Errorf(`%q of none leaves the GPU idle while "gpu" is required; write "gpu: none" or "gpu: optional"`, word)
		}
	}
	return nil, "", nil
}

// flashAttn bridges b6325 (llama.cpp #15434), which gave --flash-attn a value. Without one it eats the flag after it.
func flashAttn(m *flagline.Line, word string, def engine.FlagDef, values []string) ([]string, string, error) {
	build := m.Build
	isSwitch := def.Value == "" || !m.Checked && build > 0 && build < 6325
	switch {
	case len(values) == 0 && isSwitch:
		return nil, "", nil
	case len(values) == 0:
		return []string{"on"}, fmt.Sprintf("rewritten from %q, which takes a value since b6325", word), nil
	case isSwitch && flagline.IsOn(values[0]):
		return nil, fmt.Sprintf("rewritten from %q with a value, which it takes since b6325", word), nil
	case isSwitch:
		return nil, "", fmt.Errorf("%q takes no value before b6325; leave it out for off", word)
	case !flagline.IsOn(values[0]) && !slices.Contains([]string{"off", "disabled", "false", "0", "auto", "-1"}, values[0]):
		return nil, "", fmt.Errorf("%q takes %s", word, m.Bridged["--flash-attn"])
	}
	return values, "", nil
}

// asManyAsFit is how the build is told that layers are its choice: the word is known since b7553.
func asManyAsFit(m *flagline.Line) string {
	if m.Build > 0 && m.Build < 7553 {
		return "-1"
	}
	return "auto"
}

// onWorkers reports whether layers go to other machines, by "--rpc": then having no GPU here is no reason to keep them.
func onWorkers(m *flagline.Line) bool {
	named := func(flag string) bool { return flag == "--rpc" || strings.HasPrefix(flag, "--rpc=") }
	return slices.ContainsFunc(m.Request.Flags, named) || m.Request.Env["LLAMA_ARG_RPC"] != ""
}

// required reports whether a GPU must be used.
func required(m *flagline.Line) bool {
	return m.Request.GPU == "" || m.Request.GPU == engine.GPURequired
}

// gpuLayers translates the user's number of layers for the build and the machine.
func gpuLayers(m *flagline.Line, name, value string) (values []string, note string, err error) {
	n, numErr := strconv.Atoi(value)
	word := value == "all" || value == "auto"
	switch {
	case numErr != nil && !word:
		return nil, "", fmt.Errorf("%q takes a whole number, all or auto", name)
	case onWorkers(m) && m.OnCPU():
		return []string{value}, "", nil
	case m.Request.GPU == engine.GPUNone && value != "0":
		return nil, "", fmt.Errorf(`%q must be 0 while "gpu" is none; remove one of them`, name)
	case m.OnCPU() && value != "0":
		return []string{"0"}, fmt.Sprintf("%s is not possible: there is no GPU", value), nil
	case m.Request.GPU == engine.GPUUnmanaged:
		return []string{value}, "", nil
	case !m.OnCPU() && numErr == nil && n == 0 && required(m):
		return nil, "", fmt.Errorf(`%q of 0 leaves the GPU idle while "gpu" is required; write "gpu: none" or "gpu: optional"`, name)
	case value == "auto" && fits(m) && asManyAsFit(m) != value:
		return []string{asManyAsFit(m)}, fmt.Sprintf("rewritten from %q, which is a word since b7553", value), nil
	case fits(m) && (!word || asManyAsFit(m) == "auto"):
		return []string{value}, "", nil // each has a meaning of its own
	case word || n < 0:
		note = fmt.Sprintf("all layers; %q means different things on different builds", value)
		return []string{allLayers}, note, nil
	}
	return []string{value}, "", nil
}

// readGPUEnv translates what the environment says of layers, like the flag of the same meaning: the command line wins
// over the environment.
func readGPUEnv(m *flagline.Line) {
	key, name, value, ok := m.SaidInEnv(subjectGPULayers)
	if !ok {
		return
	}
	values, note, err := gpuLayers(m, name, value)
	if err == nil && values[0] != value { // the error is told already
		m.User = append(m.User, engine.Flag{
			Args: []string{"--n-gpu-layers", values[0]}, Origin: engine.OriginConfig, Key: key, Note: note,
		})
	}
}

// addLayers says how many layers go to the GPU, unless the user did.
func addLayers(m *flagline.Line) {
	if m.Request.GPU == engine.GPUUnmanaged {
		return
	}
	addDevice(m)
	if !m.Says(subjectGPULayers) {
		layers := engine.Flag{Args: []string{"--n-gpu-layers", allLayers}, Origin: engine.OriginDefault, Note: "all layers"}
		switch {
		case onWorkers(m) && m.OnCPU():
			layers.Note = "all layers, on the servers of --rpc"
		case m.Request.GPU == engine.GPUNone:
			layers = engine.Flag{Args: []string{"--n-gpu-layers", "0"}, Origin: engine.OriginProvisioner, Key: "gpu", Note: "no GPU is used"}
		case m.OnCPU():
			layers.Args[1], layers.Note = "0", "there is no GPU"
		case m.Request.ReserveMemory: // what was reckoned with shall come about
		case fits(m):
			// Said all the same: the build then warns in its first milliseconds where it finds no GPU.
			layers.Args[1], layers.Note = asManyAsFit(m), "all layers, or as many as fit"
		}
		if layers.Origin == engine.OriginProvisioner || m.Request.ReserveMemory || !m.Request.EngineDefaults {
			m.Added = append(m.Added, layers)
		}
	}
	// Hides GPUs that CUDA_VISIBLE_DEVICES does not; a build without any accepts it.
	if m.Request.GPU == engine.GPUNone && m.Checked && m.Has("--device") && !m.Says(subjectDevice) && !onWorkers(m) {
		m.Added = append(m.Added, engine.Flag{
			Args: []string{"--device", "none"}, Origin: engine.OriginProvisioner, Key: "gpu", Note: "no GPU is used",
		})
	}
}

// addDevice tells the engine its devices by its own names, where no variable confines it to them.
func addDevice(m *flagline.Line) {
	var names []string
	for _, g := range m.Host.GPUs {
		if len(g.Backends) > 0 {
			names = append(names, g.Backends[0])
		}
	}
	if len(names) == 0 || len(names) < len(m.Host.GPUs) || m.OnCPU() || m.Says(subjectDevice) {
		return
	}
	m.Added = append(m.Added, engine.Flag{
		Args: []string{"--device", strings.Join(names, ",")}, Origin: engine.OriginProvisioner, Key: "devices", Note: "the GPUs of this replica",
	})
}

// offloadEnv makes llama-server report the layers on the GPU, which b11669 leaves out below its log level "trace".
// That level costs 24 lines per request instead of 8, with no prompts in them. On older builds the same number can mean
// "debug", so they are left alone.
func offloadEnv(m *flagline.Line) map[string]string {
	const name = "LLAMA_ARG_LOG_VERBOSITY"
	_, known := m.FindEnv(m.Set, name)
	if !required(m) || !known || m.Host.Binary.Build < 11669 || m.Says("verbosity", "verbose") {
		return nil
	}
	return map[string]string{name: "4"}
}
