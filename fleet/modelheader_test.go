package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/models"
	"github.com/llama-orch/engine-provisioner/node"
)

var (
	textForNumber  = append([]byte{8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0}, "2048"...)
	countlessBlock = []byte{10, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0} // 2^36
)

// A model's header is that of one replica: whatever it says, the others run on.
func TestAHeaderIsOneReplicasProblem(t *testing.T) {
	t.Parallel()
	cfgs := fakeConfigs(t, 2, enginetest.Behavior{})
	s, _ := superviseReady(t, cfgs[0])
	healthy := s.Status()[0]
	for _, c := range []struct {
		key   string
		value []byte
	}{
		{"llama.context_length", textForNumber},
		{"llama.block_count", countlessBlock},
	} {
		bad := briskly(cfgs[1])
		bad.PoolID = "other"
		bad.Model.ID = filepath.Join(t.TempDir(), "bad.gguf")
		if err := os.WriteFile(bad.Model.ID, ggufgen.With(c.key, c.value), 0o600); err != nil {
			t.Fatal(err)
		}
		results, err := s.Apply(bounded(t), []provisioner.ProvisionConfig{cfgs[0], bad})
		if err != nil || len(results) != 2 || results[0].Result != ReloadUnchanged || results[1].Result != ReloadFailed {
			t.Fatalf("%s: %+v, %v", c.key, results, err)
		}
		var failed *models.Error
		wantText(t, results[1].Err, bad.Model.ID, c.key, "fetch it again")
		if !errors.As(results[1].Err, &failed) || failed.Fault != models.Corrupt {
			t.Errorf("%s: %+v", c.key, results[1].Err)
		}
		// The next manager's first step is the same.
		if _, err := node.Plan(bounded(t), bad); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("a plan of %s: %v", c.key, err)
		}
		if now := s.Status()[0]; now.State != provisioner.StateReady || now.LaunchID != healthy.LaunchID || statusAt(t, now.URL+"/health") != 200 {
			t.Errorf("beside %s: %+v", c.key, now)
		}
	}
}
