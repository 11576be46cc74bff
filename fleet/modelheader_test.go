package fleet

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/models"
)

// ggufWith is a model of a few hundred bytes in which one key has the value that is given, with its type before it.
func ggufWith(key string, value []byte) []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	number := func(n uint32) []byte { return le.AppendUint32(le.AppendUint32(nil, 4), n) }
	out := le.AppendUint64(le.AppendUint64(le.AppendUint32([]byte("GGUF"), 3), 1), 6)
	for _, kv := range []struct {
		key   string
		value []byte
	}{
		{"general.architecture", text(le.AppendUint32(nil, 8), "llama")},
		{"llama.embedding_length", number(64)},
		{"llama.attention.head_count", number(2)},
		{"llama.feed_forward_length", number(64)},
		{"llama.block_count", number(2)},
		{"llama.context_length", number(2048)},
	} {
		if kv.key == key {
			kv.value = value
		}
		out = append(text(out, kv.key), kv.value...)
	}
	out = le.AppendUint32(text(out, "token_embd.weight"), 2)
	out = le.AppendUint64(le.AppendUint32(le.AppendUint64(le.AppendUint64(out, 8), 8), 0), 0)
	return append(out, make([]byte, -len(out)&31+256)...)
}

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
		if err := os.WriteFile(bad.Model.ID, ggufWith(c.key, c.value), 0o600); err != nil {
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
		if _, err := provisioner.Plan(bounded(t), bad); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("a plan of %s: %v", c.key, err)
		}
		if now := s.Status()[0]; now.State != provisioner.StateReady || now.LaunchID != healthy.LaunchID || statusAt(t, now.URL+"/health") != 200 {
			t.Errorf("beside %s: %+v", c.key, now)
		}
	}
}
