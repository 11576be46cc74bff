package fit

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/llama-orch/engine-provisioner/internal/bytesize"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/gpu"
)

// Numbers say what takes the memory of a launch, how much of it is missing, and by which value of one flag it would fit.
func (c *Check) Numbers(run *Run, gpus []gpu.Device) string {
	if c == nil || run == nil {
		return ""
	}
	tried := c.least(*run, gpus)
	need, known := c.Model.Estimate(c.settings(&tried, gpus))
	if !known {
		return ""
	}
	words := []string{fmt.Sprintf("by estimate the weights take %s and the KV cache %s", bytesize.Binary(need.Weights), bytesize.Binary(need.Cache))}
	short := Lacking(c.Needs(run, gpus))
	for _, m := range short {
		words = append(words, fmt.Sprintf("%s lacks %s", m.Label, bytesize.Binary(m.Need-m.Free)))
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
func (c *Check) ways(run Run, gpus []gpu.Device) []string {
	fits := func(changed Run) bool {
		needs := c.estimate(&changed, gpus)
		return len(needs) > 0 && len(Lacking(needs)) == 0
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
	layers, mixed := c.Model.Layers()
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
