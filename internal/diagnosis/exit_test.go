package diagnosis

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/internal/filestamp"
)

func TestCausesHaveAdvice(t *testing.T) {
	t.Parallel()
	hopeless := []engine.Cause{
		engine.CauseModelMissing, engine.CauseModelCorrupt, engine.CauseBadFlag, engine.CauseLibMissing, engine.CauseDriver, engine.CauseBuildFailed,
		engine.CauseBadAddress, engine.CausePortForbidden, engine.CauseUnauthorized,
	}
	curable := []engine.Cause{engine.CausePortInUse, engine.CauseOOMGPU, engine.CauseOOMHost, engine.CauseCannotAnswer, engine.CauseDownload, engine.CauseUnknown}
	for _, c := range slices.Concat(hopeless, curable) {
		if Advice(c) == "" {
			t.Errorf("%s: no advice", c)
		}
		if c != engine.CauseUnknown && Advice(c) == Advice(engine.CauseUnknown) {
			t.Errorf("%s: only the general advice", c)
		}
		if Retryable(c) != slices.Contains(curable, c) {
			t.Errorf("%s: retryable is %v", c, Retryable(c))
		}
	}
}

// The child of another program leaves no status. A model that was cut short meanwhile is a hint, and no more.
func TestAnothersChildAndItsModel(t *testing.T) {
	t.Parallel()
	model := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(model, []byte("words"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := filestamp.Of(model)
	f := Finding{Cause: engine.CauseUnknown, Advice: "read the log"}
	if f.ByFiles(Exit{}, files); f.Advice != "read the log" {
		t.Errorf("nothing has changed: %+v", f)
	}
	if err := os.Truncate(model, 0); err != nil {
		t.Fatal(err)
	}
	if f.ByFiles(Exit{}, files); f.Cause != engine.CauseUnknown || !strings.Contains(f.Advice, "had 5 bytes and has 0") {
		t.Errorf("%+v", f)
	}
	loading := Finding{Cause: engine.CauseModelCorrupt}
	if loading.ByFiles(Exit{Known: true, Code: 1}, files); !loading.Retry || !strings.Contains(loading.Evidence, "has 0") {
		t.Errorf("a model that is still being copied: %+v", loading)
	}
	full := Finding{Cause: engine.CauseOOMGPU, Advice: "free"}
	if full.ByFiles(Exit{Known: true, Code: 1}, files); full.Advice != "free" {
		t.Errorf("what the log tells: %+v", full)
	}
}

// TestOOMOfAWorker: the kernel kills a worker, and its leader ends in a way of its own. The counts of other engines say
// nothing about that.
func TestOOMOfAWorker(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		f := Finding{Cause: engine.CauseUnknown}
		f.ByExit(Exit{Known: true, Code: 1, OOM: "oom_kill rose by 1", OOMShared: !own}, false)
		if (f.Cause == engine.CauseOOMHost) != own {
			t.Errorf("own %t: %q", own, f.Cause)
		}
	}
}

// TestKillThatNobodyCounts is on kernels before 4.13.
func TestKillThatNobodyCounts(t *testing.T) {
	t.Parallel()
	for _, killsItself := range []bool{true, false} {
		f := Finding{Cause: engine.CauseUnknown}
		f.ByExit(Exit{Known: true, Code: -1, Signal: "killed"}, killsItself)
		below := Finding{Cause: engine.CauseUnknown}
		below.ByExit(Exit{Known: true, Code: 137}, killsItself) // of a shell that did not exec
		if below.Cause != f.Cause || below.Advice != f.Advice {
			t.Errorf("below a shell: %+v", below)
		}
		if likely := strings.Contains(f.Advice, "most likely for lack of memory"); likely == killsItself || (f.Cause == engine.CauseOOMHost) == killsItself {
			t.Errorf("kills itself %t: %+v", killsItself, f)
		}
	}
}
