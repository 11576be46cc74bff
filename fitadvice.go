package provisioner

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
)

// adviseMemory puts the numbers of the estimate into the advice on a lack of memory, and returns them; "" where nothing
// can be told.
func (p *launchPlan) adviseMemory() string {
	numbers := p.memory.numbers(p.spec.GGUF, p.GPUs)
	if numbers == "" {
		return ""
	}
	advice := map[engine.Cause]string{}
	maps.Copy(advice, p.spec.Advice)
	for _, cause := range []engine.Cause{engine.CauseOOMGPU, engine.CauseOOMHost} {
		advice[cause] = cmp.Or(advice[cause], adviceFor(cause)) + "; " + numbers
	}
	p.spec.Advice = advice
	return numbers
}

// numbers say what takes the memory of a launch, how much of it is missing, and by which value of one flag it would fit.
func (c *memoryCheck) numbers(run *engine.GGUFRun, gpus []engine.GPU) string {
	if c == nil || run == nil {
		return ""
	}
	tried := c.least(*run, gpus)
	need, known := c.model.Estimate(c.settings(&tried, gpus))
	if !known {
		return ""
	}
	words := []string{fmt.Sprintf("by estimate the weights take %s and the KV cache %s", gibibytes(need.Weights), gibibytes(need.Cache))}
	short := lacking(c.needs(run, gpus))
	for _, m := range short {
		words = append(words, fmt.Sprintf("%s lacks %s", m.Label, gibibytes(m.Need-m.Free)))
	}
	if len(short) > 0 {
		if ways := c.ways(tried, gpus); len(ways) > 0 {
			words = append(words, "it would fit with "+strings.Join(ways, " or "))
		}
	}
	return strings.Join(words, "; ")
}

// mostContext is more than any model has of context, in steps of 1024 tokens.
const mostContext = 1 << 12

// ways are flags with each of which alone a launch that lacks memory would fit.
func (c *memoryCheck) ways(run engine.GGUFRun, gpus []engine.GPU) []string {
	fits := func(changed engine.GGUFRun) bool {
		needs := c.estimate(&changed, gpus)
		return len(needs) > 0 && len(lacking(needs)) == 0
	}
	var ways []string
	if flag := run.Remedies.Context; flag != "" {
		most := sort.Search(mostContext, func(i int) bool {
			less := run
			less.Context = 1024 * (i + 1)
			return !fits(less)
		})
		if most > 0 && most < mostContext {
			ways = append(ways, fmt.Sprintf("%s %d", flag, 1024*most))
		}
	}
	if len(gpus) == 0 || run.Layers == 0 {
		return ways
	}
	layers, mixed := c.model.Layers()
	if flag := run.Remedies.Experts; flag != "" {
		least := sort.Search(mixed, func(i int) bool {
			less := run
			less.OnHost = append(slices.Clone(run.OnHost), gguf.FirstExperts(i+1)...)
			return fits(less)
		})
		if least < mixed {
			ways = append(ways, fmt.Sprintf("%s %d", flag, least+1))
		}
	}
	if flag := run.Remedies.Layers; flag != "" {
		most := sort.Search(layers, func(i int) bool {
			less := run
			less.Layers = i + 1
			return !fits(less)
		})
		if most > 0 {
			ways = append(ways, fmt.Sprintf("%s %d", flag, most))
		}
	}
	return ways
}
