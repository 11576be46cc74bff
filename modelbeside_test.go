package provisioner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/llamacpp"
	"github.com/llama-orch/engine-provisioner/internal/test/enginetable"
)

// A projector and a model that drafts are told of before the download, after it, and without the hub.
func TestHubBeside(t *testing.T) {
	t.Parallel()
	r := newHubRig(t, "hf:"+hubRepo+":q4_k_m")
	r.Add(hubRepo, "mmproj-F16.gguf", []byte("GGUF projector"))
	r.Add(hubRepo, "mtp-chat-Q4_K_M.gguf", []byte("GGUF draft"))
	cache := WithCacheDir(t.TempDir())
	told := func(where string, notes []string) {
		t.Helper()
		all := strings.Join(notes, "\n")
		for _, want := range []string{
			`model.id: the repository has a projector for images or sound (mmproj-F16.gguf), which is not fetched: to have it, write "--mmproj-url ` + r.API.URL + "/" + hubRepo + "/resolve/",
			"model.id: the repository has a model that drafts for this one (mtp-chat-Q4_K_M.gguf), which is not fetched: to have it, fetch " + r.API.URL,
		} {
			if strings.Count(all, want) != 1 {
				t.Errorf("%s: %q, want %q once", where, all, want)
			}
		}
	}
	plan, err := planOf(bounded(t), r.cfg, cache)
	if err != nil || filepath.Base(plan.Model) != "chat-Q4_K_M.gguf" {
		t.Fatalf("%+v, %v", plan, err)
	}
	told("before the download", plan.Notes)

	p, j := newLaunch(t, r.cfg, cache)
	if err := p.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	told("at the start", strings.Split(j.notes(), "\n"))
	r.API.Close()
	plan, err = planOf(bounded(t), r.cfg, cache)
	if err != nil {
		t.Fatal(err)
	}
	told("without the hub", plan.Notes)

	projector := filepath.Join(filepath.Dir(plan.Model), "mmproj-F16.gguf")
	if err := os.WriteFile(projector, []byte("GGUF projector"), 0o600); err != nil {
		t.Fatal(err)
	}
	plan, err = planOf(bounded(t), r.cfg, cache)
	if err != nil || !strings.Contains(fmt.Sprint(plan.Notes), `which is not used: to have it, write "--mmproj `+projector+`"`) {
		t.Errorf("%q, %v", plan.Notes, err)
	}
}

func TestBesideIsSaid(t *testing.T) {
	t.Parallel()
	host := enginetable.LlamaServer(t)
	host.Beside = []engine.Companion{{Name: "mmproj.gguf", URL: "https://h/mmproj.gguf"}, {Name: "mtp-x.gguf", Path: "/m/mtp-x.gguf", Draft: true}}
	for flags, want := range map[string]int{
		"": 2, "--no-mmproj": 1, "--mmproj /m/mmproj.gguf": 1, "--mmproj-url https://h/mmproj.gguf --model-draft /m/mtp-x.gguf": 0, "-hfd a/b": 1,
	} {
		spec, err := launchOf(llamacpp.Engine{}, llamaConfig(strings.Fields(flags)...), host)
		if err != nil || len(spec.Notes) != want {
			t.Errorf("%q: %+v, %v; want %d notes", flags, spec.Notes, err, want)
		}
	}
}
