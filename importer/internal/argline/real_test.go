package argline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	provisioner "github.com/llama-orch/engine-provisioner"
	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
	"github.com/llama-orch/engine-provisioner/internal/test/host"
	"github.com/llama-orch/engine-provisioner/settings"
)

// failingLines are the lines that a real llama-server refuses here, and what it says.
var failingLines = map[string]string{
	"L04": "invalid device: CUDA0", "L51": "invalid device: Vulkan0", "L156": "invalid device: CUDA0",
	"L121": `LLAMA_SPLIT_MODE_TENSOR needs >= 1 devices" [bad_flag]`,
	"L139": "RPC not supported in this build",
	// The generated model has no layers that draft.
	"L24": noMTP, "L42": noMTP, "L46": noMTP, "L47": noMTP, "L49": noMTP, "L109": noMTP, "L116": noMTP, "L119": noMTP, "L160": noMTP,
	"L103": "DFlash model has no target_layer_ids", // nor is the draft model one of that kind
}

const noMTP = `failed to create MTP context" [bad_flag]`

// TestRealFieldLines runs the lines of llama-server with a tiny model in the place of theirs, to readiness and stop.
func TestRealFieldLines(t *testing.T) {
	t.Parallel()
	for _, line := range fieldLines(t) {
		if line.engine != "llamacpp" || refusedLines[line.id] != "" {
			continue
		}
		t.Run(line.id, func(t *testing.T) {
			t.Parallel()
			if slices.Contains(line.args, "-hfd") {
				t.Skip("the engine would fetch the draft model from the hub")
			}
			theirs, _, _, err := takeFieldLine(t, line)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cfg := realConfig(t)
			cfg.Flags, cfg.Env = small(t, theirs.Flags), theirs.Env
			p, err := provisioner.New(cfg, provisioner.WithCacheDir(t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Kill(context.Background()) }) // which says how it ended
			if err := p.Start(ctx); err != nil {
				t.Fatal(err)
			}
			_, err = p.WaitReady(ctx)
			if want := failingLines[line.id]; want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// realConfig is a replica of the real llama-server with a tiny generated model.
func realConfig(t testing.TB) provisioner.ProvisionConfig {
	t.Helper()
	server := os.Getenv("ENGINE_PROVISIONER_LLAMA_SERVER")
	if server == "" {
		host.Skip(t, "needs a real llama-server: set ENGINE_PROVISIONER_LLAMA_SERVER, or run make test")
	}
	dir := t.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	if err := ggufgen.WriteFile(model, ggufgen.Params{}); err != nil {
		t.Fatal(err)
	}
	return provisioner.ProvisionConfig{
		PoolID: "pool", ReplicaID: "r0", StateDir: filepath.Join(dir, "state"), Dir: dir,
		Engine: "llamacpp", Port: enginetest.FreePort(t, 1), Model: settings.Model{ID: model}, GPU: engine.GPUOptional,
		Provisioning: settings.Provisioning{Binary: &settings.Binary{Path: server}},
	}
}

// small are flags with what a test can give in the place of files and of what fills a machine.
func small(t testing.TB, flags []string) []string {
	t.Helper()
	dir := t.TempDir()
	var out []string
	for i, f := range flags {
		before := ""
		if i > 0 {
			before = flags[i-1]
		}
		write := map[string]func(string, ggufgen.Params) error{
			"--model-draft": ggufgen.WriteFile, "-md": ggufgen.WriteFile,
			"--lora": ggufgen.WriteAdapter, "--mmproj": ggufgen.WriteProjector,
		}[before]
		switch {
		case write != nil:
			var files []string
			for n := range strings.Count(f, ",") + 1 {
				file := filepath.Join(dir, fmt.Sprintf("%s-%d.gguf", strings.TrimLeft(before, "-"), n))
				if err := write(file, ggufgen.Params{}); err != nil {
					t.Fatal(err)
				}
				files = append(files, file)
			}
			f = strings.Join(files, ",")
		case before == "--slot-save-path" || before == "--log-prompts-dir":
			f = dir
		case before == "--chat-template-file" || before == "--grammar-file":
			f = filepath.Join(dir, "text")
			if err := os.WriteFile(f, []byte(`root ::= "a"`), 0o600); err != nil {
				t.Fatal(err)
			}
		case before == "--prio":
			f = "0"
		case (before == "--ctx-size" || before == "-c") && len(f) > 3:
			f = "512"
		case strings.HasPrefix(before, "--threads") || before == "-t":
			f = "1"
		}
		out = append(out, f)
	}
	return out
}
