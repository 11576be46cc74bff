package provisioner

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/engine/custom"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/settings"
)

// customConfig runs the fake llama-server from configuration alone.
func customConfig(t testing.TB, b enginetest.Behavior) ProvisionConfig {
	t.Helper()
	cfg := fakeConfig(t, b)
	cfg.Model.ID = "local:" + cfg.Model.ID
	asCustom(t, &cfg)
	return cfg
}

// asCustom makes a replica of llama-server one of the engine "custom", as the example of that describes it.
func asCustom(t testing.TB, cfg *ProvisionConfig) {
	t.Helper()
	config, err := LoadConfig("examples/llama-server-custom.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Engine, cfg.Custom = "custom", config.Pools[0].Custom
	cfg.Custom.Command[0] = cfg.Provisioning.Binary.Path
	cfg.Provisioning.Binary = nil
}

func TestCustomLife(t *testing.T) {
	t.Parallel()
	cfg := customConfig(t, enginetest.Behavior{LoadTime: 20 * time.Millisecond})
	cfg.Custom.Env = map[string]string{"LLAMA_ARG_ALIAS": "{model}", "LLAMA_ARG_PORT": "{port}"} // not owned: any engine may be custom
	cfg.Custom.Aliases = map[string]string{"-ngl": "--n-gpu-layers"}
	cfg.Flags = []string{"-ngl", "0", "--slot-save-path", "{tmpdir}"}
	cfg.Custom.Command = append(cfg.Custom.Command, "--log-file", "{tmpdir}/log")
	keyFile := filepath.Join(cfg.Dir, "key")
	if err := os.WriteFile(keyFile, []byte("sk-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.APIKey = &settings.SecretRef{FromFile: keyFile}
	p, j := ready(t, cfg)
	h := p.handoff
	model := strings.TrimPrefix(cfg.Model.ID, "local:")
	if h.Engine != "custom" || h.EngineVersion != "b11669-Fake" || h.Answer != answerOK || h.Model != (HandoffModel{cfg.Model.ID, model}) {
		t.Errorf("handoff %+v", h)
	}
	if got := p.Status().Version; got != h.EngineVersion {
		t.Errorf("the status says version %q", got)
	}
	if all, err := Statuses(cfg.StateDir); err != nil || len(all) != 1 || all[0].Version != h.EngineVersion {
		t.Errorf("statuses: %+v, %v", all, err)
	}
	report := enginetest.Inspect(t, h.URL)
	want := []string{
		"--model", model, "--host", "127.0.0.1", "--port", itoa(cfg.Port), "--metrics", "--parallel", "1",
		"--log-file", p.run.rec.TempDir + "/log", "--n-gpu-layers", "0", "--slot-save-path", "{tmpdir}",
	}
	if !reflect.DeepEqual(report.Argv, want) {
		t.Errorf("got  %q\nwant %q", report.Argv, want)
	}
	for _, want := range []string{"LLAMA_API_KEY=sk-secret", "LLAMA_ARG_ALIAS=" + model, "CUDA_VISIBLE_DEVICES="} {
		if !slices.Contains(report.Env, want) {
			t.Errorf("%s is not in the environment", want)
		}
	}
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
	wantStates(t, j, StatePreparing, StateStarting, StateReady, StateDraining, StateStopping, StateStopped)
	for path, text := range filesBelow(t, cfg.StateDir) {
		if strings.Contains(text, "sk-secret") {
			t.Errorf("the key is in %s", path)
		}
	}
}

// A server that refuses the request that its configuration names is not ready, whatever its health path says.
func TestCustomMustAnswer(t *testing.T) {
	t.Parallel()
	cfg := customConfig(t, enginetest.Behavior{AnswerStatus: 404})
	p, _ := started(t, cfg)
	_, err := p.WaitReady(bounded(t))
	wantText(t, err, "the first token failed: /completion answers 404", "[cannot_answer]")
	awaitDone(t, p)
	nothingLeft(t, p)
}

func TestCustomProgramIsMissing(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"no-such-server":   `no executable "no-such-server" in PATH`,
		"./no-such-server": "cannot find the engine's executable",
	} {
		cfg := customConfig(t, enginetest.Behavior{})
		cfg.Custom.Command[0] = command
		_, err := planOf(bounded(t), cfg, WithCacheDir(t.TempDir()))
		wantText(t, err, want, `"custom.command"`)
	}
}

// A proof of the GPU by the driver's word alone, since nothing is known of what the server logs.
func TestCustomGPUProof(t *testing.T) {
	t.Parallel()
	spec, err := launchOf(custom.Engine{}, ProvisionConfig{Port: 1, Custom: &settings.Custom{Command: []string{"s", "{host}", "{port}"}}}, engine.Host{})
	if err != nil {
		t.Fatal(err)
	}
	prove := func(memory map[int]uint64) error {
		e := evidence(spec, []string{"offloaded 33/33 layers to GPU"}) // anybody can say so
		e.PIDs, e.Held, e.Before = []int{10, 11}, holdings(memory), []engine.GPU{gpu0}
		_, err := e.Prove()
		return err
	}
	if err := prove(map[int]uint64{11: 1 << 30}); err != nil {
		t.Errorf("a child holds GPU memory: %v", err)
	}
	err = prove(map[int]uint64{12: 1 << 30})
	wantText(t, err, "none of its processes holds GPU memory")
}

// The real llama-server, of which this test tells nothing but the configuration.
func TestRealCustom(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, tiny)
	cfg.Model.ID = "local:" + cfg.Model.ID
	asCustom(t, &cfg)
	p, j := ready(t, cfg)
	if h := p.handoff; !strings.HasPrefix(h.EngineVersion, "b") || h.Answer != answerOK || statusAt(t, h.URL+"/metrics") != http.StatusOK {
		t.Errorf("%+v", h)
	}
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, p)
	if notes := j.notes(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
}

// The gauges that the configuration names hold up the stop, and one that is not there the start.
func TestCustomGauges(t *testing.T) {
	t.Parallel()
	cfg := busyConfig(t, requestTime)
	cfg.Model.ID = "local:" + cfg.Model.ID
	asCustom(t, &cfg)
	p, j := ready(t, cfg)
	results := inFlight(t, cfg, 1, `{"prompt": "x"}`)
	if err := p.Stop(bounded(t)); err != nil {
		t.Error(err)
	}
	if r := <-results; r.Err != nil || r.Status != http.StatusOK {
		t.Errorf("a request in flight got %+v", r)
	}
	wantNote(t, j, "1 request in flight")

	cfg = customConfig(t, enginetest.Behavior{})
	cfg.Custom.Gauges = []string{"llamacpp:requests_procesing"}
	p, _ = started(t, cfg)
	_, err := p.WaitReady(bounded(t))
	wantText(t, err, `/metrics lacks the series "llamacpp:requests_procesing"`)
	nothingLeft(t, p)
}
