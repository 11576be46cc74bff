package fleet

import (
	"slices"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// A reload swaps the build below a replica, forth and back.
func TestRealBuildsAreSwapped(t *testing.T) {
	t.Parallel()
	host.WithLlamaBuilds(t, func(t *testing.T, _, server string) {
		newest := briskly(realConfig(t, tiny))
		other := newest
		binary := *newest.Provisioning.Binary
		binary.Path = server
		other.Provisioning.Binary = &binary
		s, _ := superviseReady(t, newest)
		var versions []string
		for _, next := range []provisioner.ProvisionConfig{other, newest} {
			versions = append(versions, s.Status()[0].Version)
			wantApplied(t, s, []provisioner.ProvisionConfig{next}, "r0 reloaded")
		}
		versions = append(versions, s.Status()[0].Version)
		if versions[0] == versions[1] || versions[0] != versions[2] || slices.Contains(versions, "") {
			t.Errorf("versions %q", versions)
		}
	})
}
