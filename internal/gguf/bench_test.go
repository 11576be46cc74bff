package gguf

import (
	"os"
	"testing"

	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// BenchmarkOpen reads ENGINE_PROVISIONER_MODEL, or a generated model with 259 words: what takes time is the vocabulary.
func BenchmarkOpen(b *testing.B) {
	path := os.Getenv("ENGINE_PROVISIONER_MODEL")
	if path == "" {
		path = model(b, ggufgen.Params{})
	}
	for b.Loop() {
		m, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		m.Estimate(Settings{})
	}
}
