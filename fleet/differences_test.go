package fleet

import (
	"slices"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/node"
	"github.com/llama-orch/engine-provisioner/report"
)

// wantDifferences compares what differs from the recorded launch, as it is told.
func wantDifferences(t *testing.T, cfg provisioner.ProvisionConfig, want ...string) []report.Difference {
	t.Helper()
	differs, err := node.Differences(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range differs {
		got = append(got, d.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("differs by %q, want %q: %+v", got, want, differs)
	}
	return differs
}
