package provisioner

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine/flagline"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
)

// The help of a Python program is asked by Inspect alone, once for each version; a start uses what is known.
func TestInspectPythonProgram(t *testing.T) {
	t.Parallel()
	cfg := fakeVLLM(t)
	script, asked := cfg.Provisioning.Binary.Path, filepath.Join(cfg.Dir, "asked")
	writeProgram(t, script, "#!/bin/sh\necho x >>'"+asked+"'\nprintf 'options:\\n  --max-model-len N  tokens\\n  --new-flag N  new\\n'\n")
	times := func() int {
		data, _ := os.ReadFile(asked)
		return strings.Count(string(data), "x")
	}
	ctx, cache := bounded(t), WithCacheDir(t.TempDir())
	// Only the flags that the executable itself lists are known for sure.
	cfg.Flags = []string{"--neu-flag", "1"}
	if _, err := planOf(ctx, cfg, cache); err != nil {
		t.Errorf("before an Inspect: %v", err)
	}
	if times() != 0 {
		t.Errorf("a plan asked %d times", times())
	}
	for range 2 {
		b, err := inspect(ctx, cfg, cache)
		if err != nil || b.Version != "0.32.0+cpu" || b.Build != 32000 || len(b.Digest) != 64 || !flagline.Has(b.Flags, "--new-flag") {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	if times() != 1 {
		t.Errorf("asked %d times", times())
	}
	var config *ConfigError
	if _, err := planOf(ctx, cfg, cache); !errors.As(err, &config) || !strings.Contains(err.Error(), "--new-flag") {
		t.Errorf("after an Inspect: %v", err)
	}
	// Another version behind the same script.
	prefix := filepath.Dir(filepath.Dir(script))
	metadata, err := filepath.Glob(filepath.Join(escapeGlob(prefix), "lib/python3.12/site-packages/*"))
	if err != nil || len(metadata) != 1 {
		t.Fatal(metadata, err)
	}
	if err := os.RemoveAll(metadata[0]); err != nil {
		t.Fatal(err)
	}
	host.Distribution(t, prefix, "vllm", "0.34.0")
	cfg.Flags = []string{"--new-flag", "1"}
	plan, err := planOf(ctx, cfg, cache)
	if err != nil || plan.Version != "0.34.0" || !slices.Contains(plan.Args(), "--new-flag") {
		t.Errorf("another version: %+v, %v", plan, err)
	}
	if _, err := inspect(ctx, cfg, cache); err != nil || times() != 2 {
		t.Errorf("another version: asked %d times, %v", times(), err)
	}
	// Of an unknown version nothing is kept, and so nothing is asked.
	if err := os.RemoveAll(filepath.Join(prefix, "lib")); err != nil {
		t.Fatal(err)
	}
	if b, err := inspect(ctx, cfg, cache); err != nil || b.Version != "" || len(b.Flags.Defs) > 0 || times() != 2 {
		t.Errorf("an unknown version: %+v, asked %d times, %v", b, times(), err)
	}
}
