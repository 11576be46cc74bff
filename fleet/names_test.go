package fleet

import (
	"testing"

	"github.com/llama-orch/engine-provisioner/fleet/internal/restarts"
	"github.com/llama-orch/engine-provisioner/internal/test/jsonnames"
)

// What is kept on disk has its names from tags.
func TestKeptTypesHaveNames(t *testing.T) {
	t.Parallel()
	jsonnames.Check(t, restarts.Kept{}, request{}, answers{})
}
