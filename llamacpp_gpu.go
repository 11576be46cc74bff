package provisioner

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// allLayers means all layers on every build: no model has as many. -1 meant none on CUDA before b6325, and means "as
// many as fit" since b7407; the word "all" is known since b7553 (llama.cpp #15434, #16653, #18266).
const allLayers = "999"

const subjectGPULayers = "gpu-layers"

// gpuLayers translates the user's number of layers for the build and the machine.
func (l *llamaLaunch) gpuLayers(value string) (values []string, note string, err error) {
	n, numErr := strconv.Atoi(value)
	word := value == "all" || value == "auto"
	switch {
	case numErr != nil && !word:
		return nil, "", errors.New(`"--n-gpu-layers" takes a whole number, all or auto`)
	case l.cfg.GPU == GPUNone && value != "0":
		return nil, "", errors.New(`"--n-gpu-layers" must be 0 while "gpu" is none; remove one of them`)
	case l.cpu && value != "0":
		return []string{"0"}, "the user's " + value + " is not possible: there is no GPU", nil
	case !l.cpu && numErr == nil && n == 0 && l.cfg.GPU != GPUOptional:
		return nil, "", errors.New(`"--n-gpu-layers" 0 leaves the GPU idle while "gpu" is required; write "gpu: none" or "gpu: optional"`)
	case value == "auto" && (l.build == 0 || l.build >= 7553):
		return []string{value}, "", nil
	case word || n < 0:
		return []string{allLayers}, fmt.Sprintf("all layers: written as %s, as %q means different things on different builds", allLayers, value), nil
	}
	return []string{value}, "", nil
}

// checkGPUEnv reports what the environment says on layers against "gpu".
func (l *llamaLaunch) checkGPUEnv() {
	given, ok := l.given[subjectGPULayers]
	if !ok || !strings.HasPrefix(given.key, "env.") {
		return
	}
	if _, _, err := l.gpuLayers(l.cfg.Env[given.name].Value); err != nil {
		l.problem(given.key, "%v", err)
	}
}

// addDefaults adds a flag for each subject that the user left open.
func (l *llamaLaunch) addDefaults() {
	for _, d := range llamaDefaults {
		if l.givenAny(d.subjects) {
			continue
		}
		for _, args := range d.args {
			if l.set.has(args[0]) {
				l.defaults = append(l.defaults, Flag{Args: args, Origin: OriginDefault})
				break
			}
		}
	}
	l.metrics = l.metricsOn()

	layers := Flag{Args: []string{"--n-gpu-layers", allLayers}, Origin: OriginDefault, Note: "all layers"}
	given, ok := l.given[subjectGPULayers]
	switch {
	case l.cpu && (!ok || strings.HasPrefix(given.key, "env.")):
		// The command line wins over the variable.
		layers.Args[1], layers.Note = "0", "there is no GPU"
		if l.cfg.GPU == GPUNone {
			layers.Origin, layers.Key, layers.Note = OriginProvisioner, "gpu", "gpu: none"
		}
		l.defaults = append(l.defaults, layers)
	case !ok:
		l.defaults = append(l.defaults, layers)
	}
	// Hides GPUs that CUDA_VISIBLE_DEVICES does not; a build without any accepts it.
	if l.cfg.GPU == GPUNone && l.checked && l.set.has("--device") && !l.givenAny([]string{"device"}) {
		l.defaults = append(l.defaults, Flag{
			Args: []string{"--device", "none"}, Origin: OriginProvisioner, Key: "gpu", Note: "gpu: none",
		})
	}
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
