package workload

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/fit"
	"github.com/llama-orch/engine-provisioner/internal/gguf"
	"github.com/llama-orch/engine-provisioner/internal/tail"
	"github.com/llama-orch/engine-provisioner/settings"
)

// File is the pools file of one replica there. It is valid, or the error says by which key it is not.
func (w Workload) File(stateDir string) (string, error) {
	text, err := YAML(provisioner.Config{StateDir: stateDir, Pools: []provisioner.Pool{w.Pool}})
	if err == nil {
		_, err = provisioner.ParseConfig([]byte(text), "pools.yaml")
	}
	if err != nil {
		return "", fmt.Errorf("pool %q cannot be rendered: %w", w.Pool.ID, err)
	}
	return text, nil
}

// Hash stands for a text in names.
func Hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:5])
}

// Comments are the notes as comments of YAML, a shell or a unit, a line each.
func (w Workload) Comments() string {
	var b strings.Builder
	for _, note := range w.Notes {
		fmt.Fprintf(&b, "# note: %s\n", tail.Clean(strings.Join(strings.Fields(note), " ")))
	}
	return b.String()
}

// Label makes a DNS label of a name: of a service, which begins with a letter. It is at most 40 long, so that there is room for more.
func Label(name string) string {
	label := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
	if label == "" || label[0] < 'a' {
		label = "p-" + label
	}
	const most = 40
	if len(label) > most {
		label = label[:most-11] + "-" + Hash(name)
	}
	return strings.TrimRight(label, "-")
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// estimate is the main memory that a replica takes by the header of its model, rounded up; 0 where the model is not here, or none of
// GGUF.
func estimate(file string, spec engine.LaunchSpec) settings.Size {
	model, err := gguf.Open(file)
	if err != nil {
		return 0
	}
	const step = 256 << 20
	check := fit.Check{Model: model, File: fit.FileOf(file), HostFree: 1 << 62}
	var most uint64
	for _, need := range check.Needs(fit.RunOf(spec.GGUF), nil) {
		most = max(most, need.Need)
	}
	if most == 0 {
		return 0
	}
	return settings.Size((most/step + 2) * step) // the engine's own, and the manager's
}
