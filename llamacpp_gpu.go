package provisioner

import (
	"fmt"
	"strconv"
	"strings"
)

// allLayers means all layers on every build: no model has as many. -1 meant none on CUDA before b6325, and means "as
// many as fit" since b7407; the word "all" is known since b7553 (llama.cpp #15434, #16653, #18266).
const allLayers = "999"

// The subjects that depend on the machine.
const (
	subjectGPULayers = "gpu-layers"
	subjectDevice    = "device"
)

// gpuLayers translates the user's number of layers for the build and the machine.
func (l *llamaLaunch) gpuLayers(name, value string) (values []string, note string, err error) {
	n, numErr := strconv.Atoi(value)
	word := value == "all" || value == "auto"
	switch {
	case numErr != nil && !word:
		return nil, "", fmt.Errorf("%q takes a whole number, all or auto", name)
	case l.cfg.GPU == GPUNone && value != "0":
		return nil, "", fmt.Errorf(`%q must be 0 while "gpu" is none; remove one of them`, name)
	case l.cpu && value != "0":
		return []string{"0"}, fmt.Sprintf("%s is not possible: there is no GPU", value), nil
	case !l.cpu && numErr == nil && n == 0 && l.cfg.GPU != GPUOptional:
		return nil, "", fmt.Errorf(`%q of 0 leaves the GPU idle while "gpu" is required; write "gpu: none" or "gpu: optional"`, name)
	case value == "auto" && (l.build == 0 || l.build >= 7553):
		return []string{value}, "", nil
	case word || n < 0:
		note = fmt.Sprintf("all layers; %q means different things on different builds", value)
		return []string{allLayers}, note, nil
	}
	return []string{value}, "", nil
}

// readGPUEnv checks what the environment says on GPUs like the flags of the same meaning, and translates it: the
// command line wins over the environment.
func (l *llamaLaunch) readGPUEnv() {
	if key, value, ok := l.fromEnv(subjectDevice); ok && l.cfg.GPU == GPUNone && value != "none" {
		l.problem(key, `it chooses a GPU while "gpu" is none; remove one of them`)
	}
	key, value, ok := l.fromEnv(subjectGPULayers)
	if !ok {
		return
	}
	values, note, err := l.gpuLayers(strings.TrimPrefix(key, "env."), value)
	switch {
	case err != nil:
		l.problem(key, "%v", err)
	case values[0] != value:
		l.user = append(l.user, Flag{
			Args: []string{"--n-gpu-layers", values[0]}, Origin: OriginConfig, Key: key, Note: note,
		})
	}
}

// fromEnv returns what the user says on a subject through the environment.
func (l *llamaLaunch) fromEnv(subject string) (key, value string, ok bool) {
	given := l.given[subject]
	if !strings.HasPrefix(given.key, "env.") {
		return "", "", false
	}
	return given.key, l.cfg.Env[given.name].Value, true
}

// addDefaults adds a flag for each subject that the user left open.
func (l *llamaLaunch) addDefaults() {
	for _, d := range llamaDefaults {
		if l.givenAny(d.subjects) {
			continue
		}
		for _, args := range d.args {
			if l.set.has(args[0]) {
				l.defaults = append(l.defaults, Flag{Args: args, Origin: OriginDefault, Note: d.note})
				break
			}
		}
	}
	l.metrics = l.metricsOn()

	if !l.givenAny([]string{subjectGPULayers}) {
		layers := Flag{Args: []string{"--n-gpu-layers", allLayers}, Origin: OriginDefault, Note: "all layers"}
		switch {
		case l.cfg.GPU == GPUNone:
			layers = Flag{Args: []string{"--n-gpu-layers", "0"}, Origin: OriginProvisioner, Key: "gpu", Note: "no GPU is used"}
		case l.cpu:
			layers.Args[1], layers.Note = "0", "there is no GPU"
		}
		l.defaults = append(l.defaults, layers)
	}
	// Hides GPUs that CUDA_VISIBLE_DEVICES does not; a build without any accepts it.
	if l.cfg.GPU == GPUNone && l.checked && l.set.has("--device") && !l.givenAny([]string{subjectDevice}) {
		l.defaults = append(l.defaults, Flag{
			Args: []string{"--device", "none"}, Origin: OriginProvisioner, Key: "gpu", Note: "no GPU is used",
		})
	}
}

// offloadEnv makes llama-server report the layers on the GPU, which b11669 leaves out below its log level "trace". That
// level costs 24 lines per request instead of 8, with no prompts in them. On older builds the same number can mean
// "debug", so they are left alone.
func (l *llamaLaunch) offloadEnv() map[string]string {
	const name = "LLAMA_ARG_LOG_VERBOSITY"
	_, known := l.set.findEnv(name)
	required := l.cfg.GPU == "" || l.cfg.GPU == GPURequired
	if !required || !known || l.build < 11669 || l.givenAny([]string{"verbosity", "verbose"}) {
		return nil
	}
	return map[string]string{name: "4"}
}

func (l *llamaLaunch) givenAny(subjects []string) bool {
	for _, s := range subjects {
		if _, ok := l.given[s]; ok {
			return true
		}
	}
	return false
}

// metricsOn reports whether the command line or the environment turns the metrics page on.
func (l *llamaLaunch) metricsOn() bool {
	given, ok := l.given["metrics"]
	return !ok && l.set.has("--metrics") || ok && !given.negated
}
