package provisioner

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llama-orch/engine-provisioner/engine"
	"github.com/llama-orch/engine-provisioner/enginetest"
	"github.com/llama-orch/engine-provisioner/internal/ggufgen"
)

// What the real llama-server refuses beside its model is told as that, and is not tried again.
func TestRealWrongFilesBesideTheModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := filepath.Join(dir, "other.gguf")
	if err := ggufgen.WriteFile(other, tiny); err != nil {
		t.Fatal(err)
	}
	text := file("text.gguf", "no model at all")
	broken := file("broken.jinja", "{% for m in messages %}{{ m.content }")
	for name, c := range map[string]struct {
		flags    []string
		cause    engine.Cause
		evidence string
		advice   string
	}{
		"projector of the wrong kind": {[]string{"--mmproj", other}, engine.CauseBadFlag, "Failed to load CLIP model from " + other, `"--mmproj"`},
		"projector that is none":      {[]string{"--mmproj", text}, engine.CauseModelCorrupt, "invalid magic characters", "projector"},
		"adapter of the wrong kind":   {[]string{"--lora", other}, engine.CauseBadFlag, "expect general.type to be 'adapter'", `"--lora"`},
		"adapter that is none":        {[]string{"--lora", text}, engine.CauseModelCorrupt, "failed to load lora adapter '" + text + "'", `"--lora"`},
		"draft model that is none":    {[]string{"--model-draft", text}, engine.CauseModelCorrupt, "failed to load draft model, '" + text + "'", "draft"},
		"chat template":               {[]string{"--chat-template-file", broken}, engine.CauseBadFlag, "the supplied chat template is not supported", "--chat-template-file"},
		"cache without flash":         {[]string{"--cache-type-v", "q8_0", "-fa", "off"}, engine.CauseBadFlag, "requires flash_attn", `"flags"`},
		"grammar":                     {[]string{"--grammar", "root ::= ("}, engine.CauseBadFlag, "failed to parse grammar", `"flags"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := realConfig(t, tiny)
			cfg.Flags = append(cfg.Flags, c.flags...)
			p, _ := started(t, cfg)
			_, err := p.WaitReady(bounded(t))
			var exit *ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("%T: %v", err, err)
			}
			if exit.Signal == "segmentation fault" && exit.Cause == engine.CauseUnknown {
				return // b10068 dies of some, at times before the reason is in its log
			}
			if exit.Cause != c.cause || exit.Retry || !strings.Contains(exit.Evidence, c.evidence) || !strings.Contains(exit.Advice, c.advice) {
				t.Errorf("cause %q, retry %t, evidence %q, advice %q", exit.Cause, exit.Retry, exit.Evidence, exit.Advice)
			}
			if text := exit.Error(); strings.Contains(text, "exiting due to") || strings.Contains(text, `"0.`) {
				t.Error(text)
			}
		})
	}
}

// cp over a model truncates it first, and a mapped page that is gone ends the engine by SIGBUS.
func TestRealModelThatIsCutShort(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, big)
	cfg.Flags = append(cfg.Flags, "--no-repack") // else the weights are copied
	p, _ := ready(t, cfg)
	if err := os.Truncate(cfg.Model.ID, 0); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	if resp, err := client.Post(p.handoff.URL+"/completion", "application/json", strings.NewReader(`{"prompt":"Hello","n_predict":8}`)); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	awaitDone(t, p)
	var exit *ExitError
	if !errors.As(p.Err(), &exit) {
		t.Fatalf("%T: %v", p.Err(), p.Err())
	}
	if exit.Signal != "bus error" || exit.Cause != engine.CauseModelCorrupt || !exit.Retry {
		t.Errorf("signal %q, cause %q, retry %t", exit.Signal, exit.Cause, exit.Retry)
	}
	wantText(t, exit, "since the start, ", cfg.Model.ID, "bytes and has 0", "rename it (mv)")
}

func TestSignalsAndFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		behavior enginetest.Behavior
		death    enginetest.Death
		change   bool // of the model, before the death
		cause    engine.Cause
		text     []string
		not      string
	}{
		"SIGBUS, the model as it was": {death: enginetest.Death{Signal: syscall.SIGBUS}, cause: engine.CauseUnknown, text: []string{"was cut short or cannot be read", "/dev/shm"}},
		"SIGBUS, another model":       {death: enginetest.Death{Signal: syscall.SIGBUS}, change: true, cause: engine.CauseModelCorrupt, text: []string{"since the start, ", "was written to"}},
		"SIGBUS below a shell":        {death: enginetest.Death{Code: 135}, change: true, cause: engine.CauseModelCorrupt, text: []string{"since the start, "}},
		"exit, another model":         {death: enginetest.Death{Code: 1, Stderr: "0.01.000.000 E srv  x: the queue is broken\n"}, change: true, cause: engine.CauseUnknown, text: []string{`: "srv  x: the queue is broken"`}},
		"SIGSEGV after an old error": {
			behavior: enginetest.Behavior{LogText: "0.00.000.101 E srv  send_error: task id = 3\n0.00.000.102 I slot release: id 0\n"},
			death:    enginetest.Death{Signal: syscall.SIGSEGV}, cause: engine.CauseUnknown, not: "send_error",
		},
		"SIGABRT says why": {
			death: enginetest.Death{Signal: syscall.SIGABRT, Stderr: "ggml.c:12: GGML_ASSERT(n > 0) failed\n[New LWP 1]\n"}, cause: engine.CauseUnknown, text: []string{`: "ggml.c:12: GGML_ASSERT(n > 0) failed"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(t, c.behavior)
			p, _ := ready(t, cfg)
			if c.change {
				later := time.Now().Add(time.Hour)
				if err := os.Chtimes(cfg.Model.ID, later, later); err != nil {
					t.Fatal(err)
				}
			}
			enginetest.Kill(t, p.handoff.URL, c.death)
			awaitDone(t, p)
			var exit *ExitError
			if !errors.As(p.Err(), &exit) || exit.Cause != c.cause || !exit.Retry {
				t.Fatalf("%+v", p.Err())
			}
			wantText(t, exit, c.text...)
			if c.not != "" && strings.Contains(exit.Error(), c.not) {
				t.Error(exit)
			}
		})
	}
}

// llama-server has one sentence for every bind that fails; the host tells which it is.
func TestBindIsExplained(t *testing.T) {
	t.Parallel()
	port := enginetest.FreePort(t, 1)
	taken := enginetest.Stranger(t)
	for name, c := range map[string]struct {
		host  string
		port  int
		cause engine.Cause
		retry bool
		text  string
	}{
		"free":    {"127.0.0.1", port, engine.CausePortInUse, true, "is free by now"},
		"taken":   {"127.0.0.1", taken, engine.CausePortInUse, true, "is not free: it is taken by "},
		"no such": {"203.0.113.9", port, engine.CauseBadAddress, false, "is no address of this machine"},
	} {
		r := &run{}
		r.rec.Host, r.rec.Port = c.host, c.port
		f := Failure{Cause: engine.CausePortInUse, Retry: true}
		if r.explainBind(&f); f.Cause != c.cause || f.Retry != c.retry || !strings.Contains(f.Advice, c.text) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
