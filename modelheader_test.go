package provisioner

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/llama-orch/engine-provisioner/enginetest"
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

// A model that writes a list where others write a number is run, without an estimate.
func TestAModelOfAnUnknownShapeRuns(t *testing.T) {
	t.Parallel()
	cfg := fakeConfig(t, enginetest.Behavior{})
	cfg.Fit = "require"
	list := append([]byte{9, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}, 64, 0, 0, 0, 128, 0, 0, 0)
	if err := os.WriteFile(cfg.Model.ID, ggufWith("llama.embedding_length", list), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := ready(t, cfg)
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
}
