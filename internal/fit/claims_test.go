package fit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-orch/engine-provisioner/report"
)

// What others map of one file counts once; what they are still going to take counts less what they have.
func TestClaim(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(file, []byte("GGUF"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := file + ".link"
	if err := os.Link(file, link); err != nil {
		t.Fatal(err)
	}
	const nobody = 1 << 30 // no process has this number
	mapping := []report.MemoryNeed{{Need: 100, Mapped: 80}}
	asked := 0
	got := Claim([]Other{
		{Memory: mapping, Model: file, PID: nobody, Loading: true},
		{Memory: mapping, Model: link, PID: nobody},
		{Memory: []report.MemoryNeed{{GPU: "GPU-a", Need: 50}, {GPU: "GPU-b", Need: 50}}, PID: nobody, Loading: true, GPUs: 2},
		{Memory: []report.MemoryNeed{{GPU: "GPU-a", Need: 50}}, PID: nobody + 1, Loading: true, GPUs: 1},
		{Memory: []report.MemoryNeed{{GPU: "GPU-a", Need: 50}}, PID: nobody + 2}, // it has what it needs
	}, func() map[int]uint64 {
		asked++
		return map[int]uint64{nobody: 40, nobody + 1: 500}
	})
	if len(got.Mapped) != 1 || got.Mapped[FileOf(file)] != 80 {
		t.Errorf("mapped: %v", got.Mapped)
	}
	if got.Taken[""] != 20 || got.Taken["GPU-a"] != 30 || got.Taken["GPU-b"] != 30 || asked != 1 {
		t.Errorf("taken: %v, asked %d times", got.Taken, asked)
	}
	Claim([]Other{{Memory: mapping, Model: file, Loading: true}}, func() map[int]uint64 {
		t.Error("asked, where no GPU matters")
		return nil
	})
}
