package llamacpp

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/flagline"
)

// memoryOf reads from a command line, and from what the environment says beside it, what the memory of a
// llama-server depends on. What llama-server would refuse is left for it to refuse. It is nil where the flags bring in or
// place what is not reckoned with: a wrong number is worse than none.
func memoryOf(m *flagline.Line, flags []engine.Flag) *engine.GGUFRun {
	r := memoryReader{run: engine.GGUFRun{Layers: unsaidLayers}}
	run := &r.run
	if _, _, ok := flagline.Find(m.Set, "--fit"); ok && len(m.Host.GPUs) > 0 {
		run.LeastContext = 4096 // of builds since December 2025: what is left to them shrinks to the memory of the GPUs
	}
	for _, name := range slices.Sorted(maps.Keys(m.Request.Env)) {
		if def, ok := m.FindEnv(m.Set, name); ok {
			value := m.Request.Env[name]
			r.read(flagline.Subject(def), value, flagline.DeniedByEnv(def, name, value))
		}
	}
	for _, f := range flags { // after the environment, over which the command line wins
		if def, negated, ok := flagline.Find(m.Set, f.Args[0]); ok {
			r.read(flagline.Subject(def), strings.Join(f.Args[1:], " "), negated || flagline.Denies(def))
		}
	}
	if r.unknown {
		return nil
	}
	if (run.Layers == autoLayers || run.Layers == unsaidLayers) && len(m.Host.GPUs) > 0 && fits(m) {
		run.Fits = true
	}
	if run.Layers == autoLayers || run.Layers == unsaidLayers {
		run.Layers = -1
	}
	if run.Context > 0 {
		run.LeastContext = 0
	}
	run.Remedies = remedies(m)
	return run
}

// remedies are those that the build has. One that fits layers by itself needs no number of them.
func remedies(m *flagline.Line) engine.GGUFRemedies {
	r := engine.GGUFRemedies{Context: "--ctx-size"}
	if !fits(m) {
		r.Layers = "--n-gpu-layers"
	}
	if m.Has("--n-cpu-moe") {
		r.Experts = "--n-cpu-moe"
	}
	return r
}

// memoryAdvice is what to do where memory lacks. Numbers come from the estimate, where there is one.
func memoryAdvice(m *flagline.Line) map[engine.Cause]string {
	ways := []string{"a smaller model", "a smaller --ctx-size"}
	switch layers := m.Said(subjectGPULayers); {
	case !fits(m):
		ways = append(ways, "fewer --n-gpu-layers")
	case layers != "auto" && layers != "-1" && (m.Says(subjectGPULayers) || m.Request.ReserveMemory):
		ways = append(ways, "--n-gpu-layers auto for as many as fit")
	}
	if m.Has("--n-cpu-moe") {
		ways = append(ways, "--n-cpu-moe N, with which the experts of a mixture's first N layers stay in main memory")
	}
	last := len(ways) - 1
	return map[engine.Cause]string{
		engine.CauseOOMGPU:  "free GPU memory, or use " + strings.Join(ways[:last], ", ") + " or " + ways[last],
		engine.CauseOOMHost: "free memory, or use a smaller model or a smaller --ctx-size",
	}
}

// memoryReader takes in one flag after the other.
type memoryReader struct {
	run     engine.GGUFRun
	unknown bool // something matters whose memory is not known
}

// Numbers of layers that are none: what the engine is left to choose.
const (
	autoLayers   = -2
	unsaidLayers = -3
)

// read takes in what is said on one subject.
func (m *memoryReader) read(subject, value string, negated bool) {
	r := &m.run
	switch subject {
	case "ctx-size":
		r.Context = numberIn(value, 0)
	case "parallel":
		r.Slots = numberIn(value, 0)
	case "batch-size":
		r.Batch = numberIn(value, 0)
	case "ubatch-size":
		r.MicroBatch = numberIn(value, 0)
	case "cache-type-k":
		r.KeyType = value
	case "cache-type-v":
		r.ValueType = value
	case "flash-attn":
		r.NoFlash = flagline.IsOff(value)
	case "fit":
		if flagline.IsOff(value) {
			r.LeastContext = 0
		}
	case "fit-ctx":
		if r.LeastContext > 0 {
			r.LeastContext = numberIn(value, r.LeastContext)
		}
	case subjectGPULayers:
		r.Layers = max(-1, numberIn(value, -1)) // "all", and what lies below -1
		if value == "auto" || value == "-1" {
			r.Layers = autoLayers
		}
	case "split-mode":
		r.Split = value
	case "main-gpu":
		r.MainGPU = numberIn(value, 0)
	case "tensor-split":
		r.Shares = nil
		for share := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ',' || c == '/' }) {
			n, _ := strconv.ParseFloat(share, 64)
			r.Shares = append(r.Shares, n)
		}
	case "mmap":
		r.Copied = negated
	case "load-mode":
		r.Copied = slices.Contains([]string{"none", "mlock", "dio"}, value)
	case "repack":
		r.NoRepack = negated
	case "kv-offload":
		r.KVOnHost = negated
	case "swa-full":
		r.FullSWA = !negated
	case "mmproj", "spec-draft-model", "model-draft":
		r.Beside = append(r.Beside, value)
	case "lora", "control-vector":
		r.Beside = append(r.Beside, strings.Split(value, ",")...)
	case "lora-scaled", "control-vector-scaled":
		for one := range strings.SplitSeq(value, ",") { // "FILE:SCALE", and "FILE SCALE" in older builds
			r.Beside = append(r.Beside, one[:max(0, strings.LastIndexAny(one, ": "))])
		}
	case "cpu-moe":
		if !negated {
			r.ExpertsOnHost = -1
		}
	case "n-cpu-moe":
		if r.ExpertsOnHost >= 0 {
			r.ExpertsOnHost = max(r.ExpertsOnHost, numberIn(value, 0))
		}
	case "override-tensor":
		for one := range strings.SplitSeq(value, ",") {
			pattern, where, _ := strings.Cut(one, "=")
			_, err := regexp.Compile(pattern)
			m.unknown = m.unknown || err != nil || where != "CPU" // such as another GPU
			r.OnHost = append(r.OnHost, pattern)
		}
	case "n-cpu-ffn", "moe-cache-mib", "spec-draft-hf", "hf-repo-draft", "mmproj-url":
		m.unknown = m.unknown || value != "0"
	}
}

func numberIn(text string, otherwise int) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return otherwise
}
